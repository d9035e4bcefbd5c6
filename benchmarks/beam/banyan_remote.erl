%% Calls and casts between two BEAM nodes: the same work as benchmarks/remote_nodes.py, asked for in the same way.
%%
%% Run by benchmarks/beam/__init__.py, which compiles it first. b serves. a says that it is ready, and prints how many
%% a second for each line that names work.
-module(banyan_remote).
-export([b/0, a/1]).
-export([init/1, handle_call/3, handle_cast/2]).

b() ->
    {ok, _} = gen_server:start({local, sync}, ?MODULE, none, []),
    ready().

a(B) ->
    Pid = gen_server:call({sync, B}, pid),
    ready(),
    asked(Pid).

ready() -> io:format("ready~n").

asked(Pid) ->
    case io:get_line("") of
        eof -> halt(0);
        Line ->
            [Work, Count] = string:split(string:trim(Line), "\t"),
            N = list_to_integer(Count),
            erlang:garbage_collect(),
            Begun = erlang:monotonic_time(nanosecond),
            work(Work, Pid, N),
            Took = (erlang:monotonic_time(nanosecond) - Begun) / 1.0e9,
            io:format("~p~n", [N / Took]),
            asked(Pid)
    end.

work("call, 1 in flight", Pid, N) -> calls(Pid, N, small());
work("call, 64 in flight", Pid, N) ->
    Me = self(), Small = small(),
    [spawn(fun() -> calls(Pid, N div 64, Small), Me ! done end) || _ <- lists:seq(1, 64)],
    [receive done -> ok end || _ <- lists:seq(1, 64)];
work("cast, 100 B", Pid, N) -> casts(Pid, N, small());
work("cast, 64 KiB", Pid, N) -> casts(Pid, N, binary:copy(<<"x">>, 65536)).

small() -> binary:copy(<<"x">>, 100).

calls(_, 0, _) -> ok;
calls(Pid, N, What) -> gen_server:call(Pid, What), calls(Pid, N - 1, What).

casts(Pid, 0, _) -> gen_server:call(Pid, done, infinity);
casts(Pid, N, What) -> gen_server:cast(Pid, What), casts(Pid, N - 1, What).

init(_) -> {ok, 0}.
handle_call(pid, _From, Count) -> {reply, self(), Count};
handle_call(Request, _From, Count) -> {reply, Request, Count}.
handle_cast(_, Count) -> {noreply, Count + 1}.
