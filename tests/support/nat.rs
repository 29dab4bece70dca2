//! Routers that translate addresses.

use anyhow::Result;
use perpacket_lab::Node;

/// What a NAT lets in (RFC 4787 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nat {
    /// Masquerading alone, as Linux does it: what nobody inside has asked for goes to the router itself, which
    /// answers that nobody listens there.
    Masquerade,
    /// "Address and port-dependent filtering", or port-restricted: from outside only whom somebody inside has sent
    /// to comes in, and everything else is dropped.
    ///
    /// Both halves are needed. Linux translates a datagram to no host inside unless it belongs to a flow that began
    /// there; but one that it takes for the router's own leaves a flow behind, with which the datagram that a host
    /// inside sends the other way a moment later would collide: it would get another port than its candidate has. A
    /// flow whose first datagram is dropped is not remembered.
    PortRestricted,
}

impl Nat {
    /// Makes `router` translate what it forwards to the interface `outside`. The port stays the same where it is
    /// free, whomever a datagram goes to ("endpoint-independent mapping").
    pub(crate) fn set_up(self, router: &Node, outside: &str) -> Result<()> {
        router.nft(&format!(
            "table ip nat {{
                chain outgoing {{
                    type nat hook postrouting priority srcnat;
                    oifname {outside} masquerade;
                }}
            }}"
        ))?;
        if self == Self::PortRestricted {
            router.nft(&format!(
                "table ip restricted {{
                    chain to_router {{
                        type filter hook input priority filter;
                        iifname {outside} ct state new drop;
                    }}
                    chain to_inside {{
                        type filter hook forward priority filter;
                        iifname {outside} ct state new drop;
                    }}
                }}"
            ))?;
        }
        Ok(())
    }
}
