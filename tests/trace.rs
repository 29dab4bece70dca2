//! Where the path of a session goes, against what is true of a simulated network: every hop, its times and losses,
//! what routers say of themselves, and what only the headers they quote show.

mod support;
mod trace {
    pub(crate) mod faults;
    pub(crate) mod hops;
    pub(crate) mod names;
    pub(crate) mod raw;
    pub(crate) mod scene;
    pub(crate) mod session;
    pub(crate) mod user;
    pub(crate) mod watch;
}

use std::process::ExitCode;

use perpacket_lab::Test;

use support::hosts::Family::{V4, V6};
use support::measured::Way::{Mux, Net};
use trace::{faults, hops, names, raw, session, user};

fn main() -> ExitCode {
    if let Some(end) = user::child() {
        return end;
    }
    let tests: Vec<Test> = vec![
        ("ten_hops_net_v4", || hops::ten(Net, V4)),
        ("ten_hops_net_v6", || hops::ten(Net, V6)),
        ("ten_hops_mux_v4", || hops::ten(Mux, V4)),
        ("ten_hops_mux_v6", || hops::ten(Mux, V6)),
        ("silent_hop_v4", || hops::silent(V4)),
        ("silent_hop_v6", || hops::silent(V6)),
        ("short_quotes_v4", || hops::short_quotes(V4)),
        ("short_quotes_v6", || hops::short_quotes(V6)),
        ("labels_v4", || hops::labels(V4)),
        ("labels_v6", || hops::labels(V6)),
        ("rate_limited_v4", || hops::rate_limited(V4)),
        ("rate_limited_v6", || hops::rate_limited(V6)),
        ("no_pause_v4", || hops::no_pause(V4)),
        ("no_pause_v6", || hops::no_pause(V6)),
        ("path_change_v4", || faults::path_change(V4)),
        ("path_change_v6", || faults::path_change(V6)),
        ("a_silent_router_more_v4", || {
            faults::a_silent_router_more(V4)
        }),
        ("a_silent_router_more_v6", || {
            faults::a_silent_router_more(V6)
        }),
        ("ice_restart_net", || session::ice_restart(Net)),
        ("ice_restart_mux", || session::ice_restart(Mux)),
        ("after_an_ice_restart", session::after_an_ice_restart),
        ("the_session_ends", session::it_ends),
        ("rounds_that_never_come", session::rounds_that_never_come),
        ("forged_errors_v4", || faults::forged_errors(V4)),
        ("forged_errors_v6", || faults::forged_errors(V6)),
        ("forged_errors_about_a_silent_hop_v4", || {
            faults::forged_errors_about_a_silent_hop(V4)
        }),
        ("forged_errors_about_a_silent_hop_v6", || {
            faults::forged_errors_about_a_silent_hop(V6)
        }),
        ("unreachable_v4", || faults::unreachable(V4)),
        ("unreachable_v6", || faults::unreachable(V6)),
        ("no_peer", faults::no_peer),
        ("dropping_it_stops_it", faults::dropping_it_stops_it),
        ("stopping_it_gives_a_report", faults::stopping_it),
        ("wrong_configuration", faults::wrong_configuration),
        ("marks_rewritten_v4", || raw::marks_rewritten(V4)),
        ("marks_rewritten_v6", || raw::marks_rewritten(V6)),
        ("nat_v4", || raw::nat(V4)),
        ("nat_v6", || raw::nat(V6)),
        ("stateless_nat_net", || raw::stateless_nat(Net)),
        ("stateless_nat_mux", || raw::stateless_nat(Mux)),
        ("names_v4", || names::names(V4)),
        ("names_v6", || names::names(V6)),
        ("names_that_do_not_come", names::no_answer),
        ("names_by_the_system", names::system),
        ("ordinary_user_v4", || user::ordinary_user(V4)),
        ("ordinary_user_v6", || user::ordinary_user(V6)),
    ];
    perpacket_lab::main(tests)
}
