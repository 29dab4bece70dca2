//! UDP sockets whose every datagram has its own IP options.
//!
//! - **Per datagram**: TTL or hop limit, DF, DSCP and ECN, source address, flow label, IPv4 options.
//!   They travel with the datagram as control messages of `sendmsg(2)`; two threads that send with
//!   different options through one socket never mix them up.
//! - **The DF bit of IPv4**, for which Linux has no control message, by further descriptors that
//!   share the port and only send.
//! - **Of received datagrams**: TTL, TOS, destination, interface, and the kernel's timestamp.
//! - **ICMP errors** of the socket's own datagrams, without root, and without one of them ever
//!   failing a send or a receive.
//!
//! It degrades gracefully: a control message that the kernel refuses is left out, with one warning,
//! and [`UdpSocket::capabilities`] says what is real. Linux and Android are the whole thing. Elsewhere
//! TTL and TOS are switched on the socket under a lock, and the rest of the options is ignored.
//! `--cfg perpacket_fallback` builds that path on Linux too.
//!
//! # Where the classic socket options are
//!
//! | option | here |
//! |---|---|
//! | `IP_TTL`, `IPV6_UNICAST_HOPS` of the socket | [`UdpSocket::ttl`], [`UdpSocket::set_ttl`] |
//! | `IP_TTL`, `IPV6_HOPLIMIT` of a datagram | [`MessageOptions::ttl`], [`RecvMeta::ttl`] |
//! | `IP_TOS`, `IPV6_TCLASS` of the socket | [`UdpSocket::tos`], [`UdpSocket::set_tos`] |
//! | `IP_TOS`, `IPV6_TCLASS` of a datagram | [`MessageOptions::tos`], [`RecvMeta::tos`] |
//! | `IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER` of the socket | [`UdpSocket::df_mode`], [`UdpSocket::set_df_mode`] |
//! | the DF bit, `IPV6_DONTFRAG` of a datagram | [`MessageOptions::df_bit`] |
//! | `IP_RECVDSTADDR`, `IP_PKTINFO`, `IPV6_RECVPKTINFO` | [`RecvMeta::destination`], [`MessageOptions::source`] |
//! | `IP_RECVIF`, `IP_PKTINFO`, `IPV6_RECVPKTINFO` | [`RecvMeta::interface`] |
//! | `IP_OPTIONS`, `IP_RETOPTS` of a datagram | [`Transmit::ip_options`] |
//! | `IPV6_FLOWINFO` of a datagram | [`MessageOptions::flow_label`] |
//! | `IP_RECVERR`, `IPV6_RECVERR` | [`UdpSocket::icmp_errors`] |
//! | `SO_TIMESTAMPNS` | [`UdpSocketBuilder::timestamps`], [`RecvMeta::timestamp`] |
//! | `IPV6_V6ONLY` | [`UdpSocketBuilder::only_v6`] |
//! | `SO_RCVBUF`, `SO_SNDBUF` | [`UdpSocketBuilder::recv_buffer`], [`UdpSocketBuilder::send_buffer`] |
//! | `IPV6_HOPOPTS`, `IPV6_DSTOPTS`, `IPV6_RTHDR` | not offered: Linux wants `CAP_NET_RAW` for them |

#![deny(unsafe_code)]

mod batch;
mod batching;
mod capabilities;
mod df;
mod error;
mod icmp;
mod icmp_listener;
mod ip_options;
#[cfg(feature = "serde")]
mod json;
mod marking;
mod options;
mod packed;
mod quote;
mod socket;
mod transmit;

#[cfg(not(all(
    any(target_os = "linux", target_os = "android"),
    not(perpacket_fallback)
)))]
#[path = "fallback.rs"]
mod imp;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(perpacket_fallback)
))]
#[path = "linux/mod.rs"]
mod imp;

pub use batch::RecvBatch;
pub use batching::{BatchCounters, Batching};
pub use capabilities::{Capabilities, Support};
pub use df::DfMode;
pub use error::{Error, OptionsError};
pub use icmp::{IcmpError, IcmpErrorKind};
pub use icmp_listener::IcmpListener;
pub use ip_options::IpOptions;
#[cfg(feature = "serde")]
pub use json::MessageOptionsUpdate;
pub use marking::{Dscp, Ecn, Tos};
pub use options::MessageOptions;
pub use packed::PackedOptions;
pub use quote::{Quote, QuotedError};
pub use socket::{
    IcmpErrors, Timestamps, UdpSocket, UdpSocketBuilder, create_socket_for_per_message_options,
    send_with_options,
};
pub use transmit::{RecvMeta, Transmit};

/// The control-message codec, for the fuzz target alone.
#[cfg(fuzzing)]
#[doc(hidden)]
pub use imp::cmsg;

/// Asks the processor to fetch what is at an address, so that it comes while something else is done. A hint:
/// it reads and writes nothing, whatever the address is, and does nothing but on x86-64.
///
/// Who serves very many peers finds nothing of the next one in the caches, but mostly knows a little earlier
/// which one that will be.
#[doc(hidden)]
#[inline]
pub fn prefetch(address: usize, bytes: usize) {
    imp::prefetch(address, bytes);
}
