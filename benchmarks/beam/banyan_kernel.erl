%% The kernel's rows on the BEAM: prints one line `row<TAB>value` for each, the median of five runs.
%%
%% Run by benchmarks/beam/__init__.py, which compiles it first; the names of the rows are those of
%% benchmarks/kernel.py, and each does the same work as the row there.
-module(banyan_kernel).
-export([main/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

main() ->
    error_logger:tty(false),
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    tell("call, sync handler, one pair", fun call_one_pair/0),
    tell("call, async handler, 100 pairs", fun call_hundred_pairs/0),
    tell("cast into a counter", fun cast_counter/0),
    tell("broadcast, per delivery, to 1000", fun broadcast/0),
    tell("start + stop of a supervised process", fun start_stop/0),
    tell("start + stop of a supervised process, 1000 at once", fun start_stop_many/0),
    tell("supervisor restart after a crash", fun restart/0),
    tell("ring of 1000, hops", fun ring/0),
    tell("idle process, resident bytes", fun idle/0),
    tell("caller learns of a dead callee", fun dead_callee/0),
    tell("probe p99 beside 100 hot processes", fun probe/0),
    halt(0).

tell(Row, Run) ->
    Run(),
    [_, _, Median, _, _] = lists:sort([Run() || _ <- lists:seq(1, 5)]),
    io:format("~s\t~p~n", [Row, Median]).

seconds(Work) ->
    Begun = erlang:monotonic_time(nanosecond),
    Work(),
    (erlang:monotonic_time(nanosecond) - Begun) / 1.0e9.

times(0, _) -> ok;
times(N, Work) -> Work(), times(N - 1, Work).

%% -- a server, and a supervisor ----------------------------------------------------------------------

init({sup, Flags, Specs}) -> {ok, {Flags, Specs}};
init(_) -> {ok, 0}.

handle_call(Request, _From, Count) -> {reply, Request, Count}.

handle_cast(crash, _Count) -> exit(crash);
handle_cast(_, Count) -> {noreply, Count + 1}.

handle_info({hot, Pid, Micros}, Count) ->
    spin(erlang:monotonic_time(microsecond) + Micros),
    Pid ! {hot, Pid, Micros},
    {noreply, Count};
handle_info(_, Count) -> {noreply, Count}.

spin(Until) ->
    case erlang:monotonic_time(microsecond) < Until of
        true -> spin(Until);
        false -> ok
    end.

server() -> {ok, Pid} = gen_server:start(?MODULE, none, []), Pid.

end_all(Pids) -> [exit(Pid, kill) || Pid <- Pids], ok.

nest() ->
    Spec = #{id => one, restart => temporary, start => {gen_server, start_link, [?MODULE, none, []]}},
    Flags = #{strategy => simple_one_for_one, intensity => 1000000, period => 1},
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, Flags, [Spec]}),
    Sup.

stop(Sup) -> exit(Sup, shutdown), receive {'EXIT', Sup, _} -> ok end.

%% -- the rows ----------------------------------------------------------------------------------------

call_one_pair() ->
    Pid = server(), N = 100000,
    Took = seconds(fun() -> times(N, fun() -> gen_server:call(Pid, ping) end) end),
    end_all([Pid]), N / Took.

call_hundred_pairs() ->
    Pids = [server() || _ <- lists:seq(1, 100)], Each = 2000, Me = self(),
    Took = seconds(fun() ->
        [spawn(fun() -> times(Each, fun() -> gen_server:call(Pid, ping) end), Me ! done end) || Pid <- Pids],
        [receive done -> ok end || _ <- Pids]
    end),
    end_all(Pids), 100 * Each / Took.

cast_counter() ->
    Pid = server(), N = 300000,
    Took = seconds(fun() ->
        times(N, fun() -> gen_server:cast(Pid, ping) end),
        gen_server:call(Pid, ping, infinity)
    end),
    end_all([Pid]), N / Took.

broadcast() ->
    Pids = [server() || _ <- lists:seq(1, 1000)], Rounds = 20,
    Took = seconds(fun() ->
        times(Rounds, fun() -> [gen_server:cast(Pid, ping) || Pid <- Pids] end),
        [gen_server:call(Pid, ping) || Pid <- Pids]
    end),
    end_all(Pids), Took / (Rounds * 1000) * 1.0e6.

start_stop() ->
    Sup = nest(), N = 20000,
    Took = seconds(fun() ->
        times(N, fun() ->
            {ok, Pid} = supervisor:start_child(Sup, []),
            ok = supervisor:terminate_child(Sup, Pid)
        end)
    end),
    stop(Sup), N / Took.

start_stop_many() ->
    N = 1000, Rounds = 10,
    Took = seconds(fun() ->
        times(Rounds, fun() ->
            Sup = nest(),
            times(N, fun() -> {ok, _} = supervisor:start_child(Sup, []) end),
            stop(Sup)
        end)
    end),
    N * Rounds / Took.

restart() ->
    Spec = #{id => one, start => {gen_server, start_link, [{local, crasher}, ?MODULE, none, []]}},
    {ok, Sup} = supervisor:start_link(?MODULE, {sup, #{intensity => 1000000, period => 1}, [Spec]}),
    N = 3000,
    Took = seconds(fun() -> times(N, fun() ->
        Before = whereis(crasher),
        gen_server:cast(crasher, crash),
        healed(Sup, Before)
    end) end),
    stop(Sup), N / Took.

healed(Sup, Before) ->
    case supervisor:which_children(Sup) of
        [{_, Pid, _, _}] when is_pid(Pid), Pid =/= Before -> ok;
        _ -> healed(Sup, Before)
    end.

ring() ->
    Size = 1000, Hops = 1000000, Me = self(),
    First = spawn(fun() -> receive {next, Next} -> hop(Next, Me) end end),
    Last = lists:foldl(fun(_, Next) -> spawn(fun() -> hop(Next, Me) end) end, First, lists:seq(2, Size)),
    First ! {next, Last},
    Took = seconds(fun() -> First ! Hops, receive done -> ok end end),
    exit(First, kill), Hops / Took.

hop(Next, Me) ->
    receive
        0 -> Me ! done, hop(Next, Me);
        Left -> Next ! Left - 1, hop(Next, Me)
    end.

idle() ->
    N = 100000,
    erlang:garbage_collect(),
    Before = erlang:memory(processes),
    Pids = [server() || _ <- lists:seq(1, N)],
    Bytes = (erlang:memory(processes) - Before) / N,
    end_all(Pids), Bytes.

dead_callee() ->
    Took = [begin
        Pid = server(),
        seconds(fun() ->
            gen_server:cast(Pid, crash),
            try gen_server:call(Pid, ping) catch exit:_ -> ok end
        end)
    end || _ <- lists:seq(1, 200)],
    lists:nth(100, lists:sort(Took)) * 1.0e3.

probe() ->
    Hot = [server() || _ <- lists:seq(1, 100)],
    [Pid ! {hot, Pid, 4} || Pid <- Hot],
    Probe = server(),
    Took = [seconds(fun() -> gen_server:call(Probe, ping) end) || _ <- lists:seq(1, 100)],
    end_all(Hot), lists:nth(99, lists:sort(Took)) * 1.0e3.
