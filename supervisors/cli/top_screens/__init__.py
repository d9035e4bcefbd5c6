"""The screens of `banyan top`: a client of the admin socket in a process of its own, made with Textual."""
