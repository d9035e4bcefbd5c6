%% The durable rows on the BEAM: a mnesia table on the disk, each commit's log synced before it is answered.
%%
%% Prints one line `row<TAB>value` for each, the median of five runs. Run by benchmarks/beam/__init__.py; the
%% names of the rows are those of benchmarks/durable.py. Without mnesia (Debian: erlang-mnesia) it prints none.
-module(banyan_durable).
-export([main/0]).

main() ->
    logger:set_primary_config(level, none),
    case code:which(mnesia) of
        non_existing ->
            io:format(standard_error, "mnesia: missing (Debian: erlang-mnesia)~n", []);
        _ ->
            tell("durable commands, 1 writer", 1, 300),
            tell("durable commands, 64 writers", 64, 30)
    end,
    halt(0).

tell(Row, Writers, Each) ->
    run(Writers, Each),
    [_, _, Median, _, _] = lists:sort([run(Writers, Each) || _ <- lists:seq(1, 5)]),
    io:format("~s\t~p~n", [Row, Median]).

%% Commands a second, each of its own process to its own key, one in flight.
run(Writers, Each) ->
    Folder = "/tmp/banyan-mnesia-" ++ os:getpid(),
    application:set_env(mnesia, dir, Folder),
    ok = mnesia:create_schema([node()]),
    ok = mnesia:start(),
    {atomic, ok} = mnesia:create_table(counter, [{disc_copies, [node()]}, {attributes, [key, count]}]),
    Begun = erlang:monotonic_time(nanosecond),
    Started = [spawn_monitor(fun() -> commands(Key, Each) end) || Key <- lists:seq(1, Writers)],
    [receive {'DOWN', Ref, process, Pid, normal} -> ok end || {Pid, Ref} <- Started],
    Took = (erlang:monotonic_time(nanosecond) - Begun) / 1.0e9,
    stopped = mnesia:stop(),
    ok = file:del_dir_r(Folder),
    Writers * Each / Took.

commands(_, 0) -> ok;
commands(Key, Left) ->
    {atomic, ok} = mnesia:transaction(fun() -> mnesia:write({counter, Key, Left}) end),
    ok = mnesia:sync_log(),
    commands(Key, Left - 1).
