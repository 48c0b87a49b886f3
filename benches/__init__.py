"""How fast, and how much memory: one bench for each stage, one from file to report, and what was recorded.

Run from the root of the repository, with the extensions built (`pip install -e .[bench]`):

    pytest benches/ --benchmark-only                         all of them, on generated traffic
    pytest benches/bench_decode.py --benchmark-only          one stage
    pytest benches/ --benchmark-only --bench-capture F.pcap  the stages that read a file, on that file
    python -m benches.record                                 all of them, written to benches/results/DATE-COMMIT.json,
                                                             and what became slower than recorded is called out
    python -m benches.memory F.pcap                          peak memory of `ctrack report`, for each connection
    python -m benches.soak --seconds 3600                    live traffic for as long: does memory grow
    python -m benches.half_open --max-memory 1073741824      200 million half-open connections out of a pipe
    python -m benches.live_rate --rate 200000 --seconds 600  `ctrack live` on a cable with so many packets a second
    python -m benches.host_sockets --sockets 100000          `ctrack sockets` on a host that has so many, and `ss`
    python -m benches.peers F.pcap                           other programs, the floor and we, on one capture

`--bench-connections N` sets the size of the generated traffic (100,000 connections are 1.4 million packets). Times are
medians; `extra_info` has nanoseconds a packet (or whatever is counted), and end to end also the floor: the least that a
tracker must do on the same file, in C, run within the same minute (tools/floor.c of the shared folder, where there is
one: CONNTRACK_SHARED, or ../shared). Ratios to the floor compare across machines, times do not.

Nothing here asserts a time: a bench that fails is one that does not run.
"""
