//! `perpacket-udp` on the wire.

mod address;
mod batch;
mod exact;
mod header;
mod icmp;
mod receive;

use std::process::ExitCode;

fn main() -> ExitCode {
    perpacket_lab::main(vec![
        ("random_options_from_two_threads_v4", exact::v4),
        (
            "random_options_from_two_threads_v4_wildcard",
            exact::v4_wildcard,
        ),
        ("random_options_from_two_threads_v6", exact::v6),
        (
            "random_options_from_two_threads_v4_mapped",
            exact::v4_mapped,
        ),
        (
            "random_options_from_two_threads_v4_mapped_wildcard",
            exact::v4_mapped_wildcard,
        ),
        (
            "random_options_from_two_threads_on_one_descriptor",
            exact::adopted,
        ),
        (
            "nothing_arrives_at_a_twin",
            exact::nothing_arrives_at_a_twin,
        ),
        ("the_port_is_nobody_elses", exact::the_port_is_nobody_elses),
        ("every_code_point", header::every_code_point),
        (
            "socket_defaults_reach_every_twin",
            header::socket_defaults_reach_every_twin,
        ),
        (
            "source_address_and_flow_label",
            header::source_address_and_flow_label,
        ),
        (
            "large_datagrams_fragment_or_are_refused",
            header::large_datagrams_fragment_or_are_refused,
        ),
        ("record_route", header::record_route),
        ("hop_errors", icmp::hop_errors),
        ("packet_too_big", icmp::packet_too_big),
        ("too_big_for_this_host", icmp::too_big_for_this_host),
        (
            "unread_errors_displace_no_datagram",
            icmp::unread_errors_displace_no_datagram,
        ),
        (
            "an_icmp_storm_fails_nobody",
            icmp::an_icmp_storm_fails_nobody,
        ),
        (
            "what_icmp_says_cuts_no_datagram",
            icmp::what_icmp_says_cuts_no_datagram,
        ),
        (
            "errors_end_with_the_socket",
            icmp::errors_end_with_the_socket,
        ),
        ("received_header", receive::received_header),
        (
            "truncation_and_cancellation",
            receive::truncation_and_cancellation,
        ),
        ("runs_have_their_options", batch::runs_have_their_options),
        (
            "everything_arrives_in_order",
            batch::everything_arrives_in_order,
        ),
        ("too_large_for_a_run", batch::too_large_for_a_run),
        ("who_sends_too_fast_waits", batch::who_sends_too_fast_waits),
        (
            "dropping_sends_what_waits",
            batch::dropping_sends_what_waits,
        ),
        ("a_batch_one_by_one", batch::a_batch_one_by_one),
        (
            "what_is_left_fits_into_a_new_batch",
            batch::what_is_left_fits_into_a_new_batch,
        ),
        ("a_flapping_source_v4", address::a_flapping_source_v4),
        ("a_flapping_source_v6", address::a_flapping_source_v6),
        (
            "df_bit_first_needed_without_address",
            address::df_bit_first_needed_without_address,
        ),
    ])
}

/// What a socket on Linux can do; the portable one is tested for what it claims.
fn full(socket: &perpacket_udp::UdpSocket) -> bool {
    socket.capabilities().recv_meta
}
