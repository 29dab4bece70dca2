/// How well a field of [`MessageOptions`](crate::MessageOptions) can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum Support {
    /// The field is ignored.
    None,
    /// The socket's option is switched under a lock before each datagram that needs another value:
    /// right on the wire, but senders wait for each other.
    Locked,
    /// The field travels with the datagram, no lock is taken.
    PerMessage,
}

/// What a socket can really do, from [`UdpSocket::capabilities`](crate::UdpSocket::capabilities).
///
/// It may shrink while the socket is used: where a kernel refuses a control message, datagrams go
/// out without it from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Capabilities {
    /// Of the TTL, or hop limit.
    pub ttl: Support,
    /// Of the DF bit.
    pub df_bit: Support,
    /// Of the TOS byte: DSCP and ECN.
    pub tos: Support,
    /// Of the source address.
    pub source: Support,
    /// Of the flow label; [`Support::None`] on IPv4, which has none.
    pub flow_label: Support,
    /// Whether [`UdpSocket::icmp_errors`](crate::UdpSocket::icmp_errors) yields anything.
    pub icmp_errors: bool,
    /// Whether a received datagram's TTL, TOS, destination and interface are known.
    pub recv_meta: bool,
    /// Whether [`UdpSocket::sent_at`](crate::UdpSocket::sent_at) yields anything: on Linux since 6.13
    /// (`SCM_TS_OPT_ID`). An older kernel is found out by the first probe.
    pub send_timestamps: bool,
}
