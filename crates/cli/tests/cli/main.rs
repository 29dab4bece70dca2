//! The program `perpacket`, as its users run it: two of it, one as the server, in networks of the lab.

mod joining;
mod measuring;
mod program;
mod refusals;
mod screen;
mod serving;
mod stub;
mod terminal;

use std::process::ExitCode;

use perpacket_lab::Test;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![
        ("connect_v4", joining::connect_v4),
        ("connect_v6", joining::connect_v6),
        ("whep_and_media_only", joining::whep_and_media_only),
        ("connect_prints_json_and_csv", joining::formats),
        ("ctrl_c_deletes_the_session", joining::ctrl_c),
        ("ctrl_c_twice_ends_it_at_once", joining::ctrl_c_twice),
        ("behind_a_proxy", joining::proxy),
        ("stun_servers_of_the_endpoint", joining::stun_servers),
        ("a_slow_data_channel", joining::slow_channel),
        ("redirects_and_tokens", joining::redirects_and_tokens),
        ("a_closed_pipe_is_no_error", joining::closed_pipe),
        ("a_lost_server_is_told", joining::lost_server),
        ("serve_gives_what_is_set", serving::options),
        ("serve_ends_with_its_clients", serving::ends),
        ("serve_keeps_its_token_and_history", serving::starts_again),
        ("serve_over_https", serving::https),
        ("serve_says_what_it_cannot_use", serving::refusals),
        ("usage", refusals::usage),
        ("nobody_listens", refusals::nobody_listens),
        ("nobody_answers", refusals::nobody_answers),
        ("the_server_refuses", refusals::server_refuses),
        ("udp_is_blocked", refusals::udp_is_blocked),
        ("the_port_is_taken", refusals::port_is_taken),
        ("trace_v4", || measuring::trace(false)),
        ("trace_v6", || measuring::trace(true)),
        ("trace_of_ten_hops", measuring::trace_of_ten_hops),
        ("trace_prints_json_and_csv", measuring::trace_formats),
        ("trace_that_does_not_reach", measuring::trace_too_short),
        ("pmtu_v4", || measuring::pmtu(false)),
        ("pmtu_v6", || measuring::pmtu(true)),
        ("pmtu_of_a_black_hole", measuring::pmtu_of_a_black_hole),
        ("ttl", measuring::ttl),
        ("qos", measuring::qos),
        ("qos_without_a_load", measuring::no_load),
        (
            "ctrl_c_ends_qos_before_the_load",
            measuring::qos_interrupted,
        ),
        (
            "ctrl_c_ends_pmtu_before_an_answer",
            measuring::pmtu_interrupted,
        ),
        ("qos_names_a_remarking", measuring::remarking),
        ("qos_hears_of_a_remarking", measuring::remarking_at_the_end),
        ("the_live_table_gives_the_terminal_back", terminal::live),
        ("the_live_table_begins_anew", terminal::begins_anew),
        ("the_live_table_ends_at_sigterm", terminal::sigterm),
    ];
    perpacket_lab::main(tests)
}
