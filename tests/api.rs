//! The server's REST API, its events and its pages, over real HTTP: the server on one host of the lab, and on another a
//! client whose peer connection is stock webrtc-rs. A router is between them.

mod api {
    pub(crate) mod access;
    pub(crate) mod connections;
    pub(crate) mod documents;
    pub(crate) mod events;
    pub(crate) mod guard;
    pub(crate) mod measurements;
    pub(crate) mod operator;
    pub(crate) mod options;
    pub(crate) mod past;
    pub(crate) mod scene;
    pub(crate) mod schemathesis;
    pub(crate) mod seen;
}
mod support;
#[path = "whip/mod.rs"]
mod whip;

use std::process::ExitCode;

use perpacket_lab::Test;
use support::hosts::Family;

use api::{
    access, connections, documents, events, guard, measurements, options, past, schemathesis, seen,
};

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("nobody_is_let_in_without_the_token", access::token),
        ("pages_of_others_may_not_ask", access::origins),
        ("what_is_wrong_is_said", access::bad_input),
        ("who_asks_too_often_has_to_wait", access::rate),
        ("connections_are_bounded", connections::bounded),
        ("who_says_nothing_is_not_waited_for", connections::silent),
        ("schemathesis_finds_nothing", schemathesis::finds_nothing),
        ("pages_are_there_and_safe", documents::pages),
        ("the_api_is_described", documents::openapi),
        ("prometheus_is_answered", documents::metrics),
        ("a_client_is_seen_v4", || seen::client(Family::V4)),
        ("a_client_is_seen_v6", || seen::client(Family::V6)),
        ("a_client_sees_itself_and_shares_it", seen::itself),
        ("options_are_in_force_with_the_next_packet_v4", || {
            options::in_force(Family::V4)
        }),
        ("options_are_in_force_with_the_next_packet_v6", || {
            options::in_force(Family::V6)
        }),
        ("options_are_left_and_cleared", options::left_and_cleared),
        ("what_cuts_off_is_taken_back", guard::cut_off),
        (
            "what_cuts_off_one_class_is_taken_back",
            guard::cut_off_media,
        ),
        ("what_is_for_a_while_is_taken_back", guard::timer),
        ("a_later_change_replaces_the_watch", guard::replaced),
        ("changes_of_two_are_told_in_order", guard::two_operators),
        (
            "nothing_waits_for_who_cannot_be_asked",
            guard::cannot_be_asked,
        ),
        ("a_trace_and_the_rest_are_measured", measurements::all),
        ("there_is_one_of_a_kind", measurements::one_of_a_kind),
        ("many_are_remembered", measurements::many),
        ("events_tell_what_happens", events::all),
        ("events_go_on_where_they_were", events::resumed),
        ("history_has_it_all", past::history),
        ("without_history_it_works_too", past::without),
        ("shutdown_is_quick_and_complete", past::shutdown),
    ];
    perpacket_lab::main(tests)
}
