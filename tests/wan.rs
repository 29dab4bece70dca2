//! The simulated network, tested on itself: what its scenarios say is what is on its wires.

mod wan {
    pub(crate) mod faults;
    pub(crate) mod hops;
    pub(crate) mod load;
    pub(crate) mod marks;
    pub(crate) mod nat;
    pub(crate) mod programs;
    pub(crate) mod scene;
    pub(crate) mod sizes;
}

use std::process::ExitCode;

use perpacket_lab::Test;

use wan::{faults, hops, load, marks, nat, programs, sizes};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("every_hop_answers", hops::every_hop_answers),
        (
            "rtt_is_that_of_the_scenario",
            hops::rtt_is_that_of_the_scenario,
        ),
        ("ways_have_their_own_delay", hops::ways_have_their_own_delay),
        ("path_grows_while_it_runs", hops::path_grows_while_it_runs),
        ("silent_hop_says_nothing", faults::silent_hop_says_nothing),
        ("icmp_rate_is_limited", faults::icmp_rate_is_limited),
        (
            "losses_have_their_probability_and_repeat",
            faults::losses_have_their_probability_and_repeat,
        ),
        ("every_third_is_lost", faults::every_third_is_lost),
        ("bad_scenarios_are_named", faults::bad_scenarios_are_named),
        ("dropped_network_is_gone", faults::dropped_network_is_gone),
        ("too_big_is_answered", sizes::too_big_is_answered),
        (
            "too_big_is_answered_from_either_side",
            sizes::too_big_is_answered_from_either_side,
        ),
        (
            "black_hole_appears_and_goes",
            sizes::black_hole_appears_and_goes,
        ),
        ("without_df_it_is_cut", sizes::without_df_it_is_cut),
        ("jumbo_passes", sizes::jumbo_passes),
        ("segmented_sends_are_cut", sizes::segmented_sends_are_cut),
        ("quotes_have_their_length", sizes::quotes_have_their_length),
        (
            "extensions_are_those_of_the_scenario",
            sizes::extensions_are_those_of_the_scenario,
        ),
        (
            "errors_about_errors_are_not_sent",
            sizes::errors_about_errors_are_not_sent,
        ),
        (
            "remarkings_are_on_the_wire",
            marks::remarkings_are_on_the_wire,
        ),
        ("ecn_changes_alone", marks::ecn_changes_alone),
        (
            "way_back_has_its_own_marks",
            marks::way_back_has_its_own_marks,
        ),
        ("dead_dscp_is_lost", marks::dead_dscp_is_lost),
        ("nat_translates_both_ways", nat::nat_translates_both_ways),
        ("icmp_errors_come_home", nat::icmp_errors_come_home),
        ("bottleneck_drops_its_tail", load::bottleneck_drops_its_tail),
        ("priority_overtakes", load::priority_overtakes),
        ("slow_dscp_is_overtaken", load::slow_dscp_is_overtaken),
        (
            "traceroute_finds_every_hop",
            programs::traceroute_finds_every_hop,
        ),
        ("tracepath_finds_the_mtu", programs::tracepath_finds_the_mtu),
        ("traceroute_finds_labels", programs::traceroute_finds_labels),
        ("mtr_finds_every_hop", programs::mtr_finds_every_hop),
        ("ping_passes_the_nat", programs::ping_passes_the_nat),
    ];
    perpacket_lab::main(tests)
}
