use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use perpacket_udp::{MessageOptions, OptionsError};

use crate::{
    PacketClass, PeerCounters, Tap, TapGuard,
    net::{Hub, Ports},
    policy::{LiveOverrides, Overrides},
    protection::Protection,
    tap::Taps,
};

/// The name of a session: whatever the application calls its peer connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: AsRef<str>> From<T> for SessionId {
    fn from(name: T) -> Self {
        Self(name.as_ref().into())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_str(&self.0)
    }
}

/// One peer connection, whatever pair of addresses ICE has selected for it: from
/// [`CustomNet::session`](crate::CustomNet::session).
///
/// Every socket that is made through the session's network, or the mux for the session, takes the
/// session's options. Two peer connections at a time are better two sessions: they would share options
/// and counters, and on a mux each could take the other's addresses. Clones name the same session; it ends when the last of them, its network and its sockets are dropped.
#[derive(Clone, Debug)]
pub struct Session {
    pub(crate) state: Arc<SessionState>,
    pub(crate) hub: Arc<Hub>,
}

#[derive(Debug)]
pub(crate) struct SessionState {
    pub(crate) id: SessionId,
    pub(crate) overrides: LiveOverrides,
    pub(crate) taps: Taps,
    /// Of one peer connection: what belongs to it can come in at any of its sockets.
    pub(crate) protection: Protection,
    /// Bytes of IP packet; 0 where it is not known.
    pub(crate) path_mtu: AtomicU32,
    /// Its sockets: there may be very many of others.
    pub(crate) ports: Mutex<Ports>,
    hub: Weak<Hub>,
}

impl SessionState {
    pub(crate) fn new(id: SessionId, hub: Weak<Hub>) -> Self {
        Self {
            id,
            overrides: LiveOverrides::default(),
            taps: Taps::default(),
            protection: Protection::default(),
            path_mtu: AtomicU32::new(0),
            ports: Mutex::default(),
            hub,
        }
    }
}

impl Drop for SessionState {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.forget_session(&self.id);
        }
    }
}

impl Session {
    /// The name.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.state.id
    }

    /// Sets the options of everything that the session sends. [`MessageOptions::NONE`] removes them.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_options(&self, options: MessageOptions) -> Result<(), OptionsError> {
        options.validate()?;
        self.state
            .overrides
            .change(|overrides| overrides.any = options);
        Ok(())
    }

    /// Sets the options of one class of what the session sends. [`MessageOptions::NONE`] removes
    /// them.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn set_class_options(
        &self,
        class: PacketClass,
        options: MessageOptions,
    ) -> Result<(), OptionsError> {
        options.validate()?;
        self.state
            .overrides
            .change(|overrides| overrides.set_class(class, options));
        Ok(())
    }

    /// Sets the options of the session and of each class in place of all that was set, at one moment: every
    /// datagram has those from before or those from after.
    ///
    /// # Errors
    /// The field that is out of range; nothing is changed then.
    pub fn replace_options(&self, overrides: &Overrides) -> Result<(), OptionsError> {
        overrides.any.validate()?;
        for options in &overrides.classes {
            options.validate()?;
        }
        self.state.overrides.change(|now| now.clone_from(overrides));
        Ok(())
    }

    /// Removes everything that was set for the session.
    pub fn clear_options(&self) {
        self.state
            .overrides
            .change(|overrides| *overrides = Overrides::default());
    }

    /// What is set for the session.
    #[must_use]
    pub fn options(&self) -> Overrides {
        Overrides::clone(&self.state.overrides.load())
    }

    /// Says how large a packet the session's path carries, bytes of IP packet, from the next datagram
    /// on; `None` if that is not known, as at first.
    ///
    /// A datagram that is larger must not be lost to a router that drops it without a word, so it goes out
    /// with DF 0, whatever the policy says: on IPv4 it may be fragmented on the way. On IPv6 only the
    /// sender can (RFC 8200 §4.5), and Linux does so by the path MTU that ICMP has told it, so where
    /// ICMP is blocked the datagram is lost all the same. On both it is counted in
    /// [`ClassCounters::oversize`](crate::ClassCounters::oversize) and reported as
    /// [`Event::Oversize`](crate::Event::Oversize): the application had better send less at a time.
    ///
    /// # Errors
    /// Below 68 bytes there is no IP (RFC 791 §3.2); nothing is changed then.
    pub fn set_path_mtu(&self, mtu: Option<u32>) -> Result<(), OptionsError> {
        const MINIMUM: u32 = 68;
        if let Some(mtu @ ..MINIMUM) = mtu {
            return Err(OptionsError::OutOfRange {
                field: "path_mtu",
                value: mtu.into(),
                range: "68..",
            });
        }
        self.state.path_mtu.store(mtu.unwrap_or(0), Relaxed);
        Ok(())
    }

    /// What was set by [`set_path_mtu`](Self::set_path_mtu).
    #[must_use]
    pub fn path_mtu(&self) -> Option<u32> {
        Some(self.state.path_mtu.load(Relaxed)).filter(|mtu| *mtu != 0)
    }

    /// Lets `tap` see all that the session receives before its peer connection does, until the guard
    /// is dropped.
    pub fn tap(&self, tap: Arc<dyn Tap>) -> TapGuard {
        TapGuard::new(&self.state, tap)
    }

    /// What the session's sockets that are open have counted, by peer, in the order of addresses.
    /// Peers that are too many to be told apart are in [`total`](Self::total) only.
    #[must_use]
    pub fn peers(&self) -> Vec<(SocketAddr, PeerCounters)> {
        let mut peers = BTreeMap::<_, PeerCounters>::new();
        let (mut ports, _) = self.state.ports();
        ports.retain(|port| port.is_open());
        for port in ports {
            for (peer, counters) in port.counters.load().0 {
                peers.entry(peer).or_default().add(&counters);
            }
        }
        peers.into_iter().collect()
    }

    /// What the session has counted in all, sockets that are closed by now included.
    #[must_use]
    pub fn total(&self) -> PeerCounters {
        let (ports, mut total) = self.state.ports();
        for port in ports {
            total.add(&port.counters.total());
        }
        total
    }
}
