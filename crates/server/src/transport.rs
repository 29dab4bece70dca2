use std::net::{IpAddr, SocketAddr};

use perpacket_webrtc::{AddressFamily, CustomMux, CustomNet, Session, SessionId};
use webrtc::api::setting_engine::SettingEngine;

/// Where the sockets of the sessions come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// Each session has sockets of its own, one for each of its candidates.
    #[cfg(feature = "custom-net")]
    Net(CustomNet),
    /// All sessions share one port. A session lives in one address family, that of its client unless
    /// told otherwise.
    ///
    /// Relayed candidates have sockets of their own all the same, which belong to the session only with
    /// the feature `custom-net`.
    Mux(CustomMux),
}

/// What a session has of a transport.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) session: Session,
    mux: Option<CustomMux>,
}

impl Transport {
    /// The network, which has the policy.
    pub(crate) fn net(&self) -> &CustomNet {
        match self {
            #[cfg(feature = "custom-net")]
            Self::Net(net) => net,
            Self::Mux(mux) => mux.net(),
        }
    }

    /// The addresses that sessions share.
    pub(crate) fn local_addrs(&self) -> Vec<SocketAddr> {
        match self {
            #[cfg(feature = "custom-net")]
            Self::Net(_) => Vec::new(),
            Self::Mux(mux) => mux.local_addrs(),
        }
    }

    /// A new session, whose peer connection is to have these settings. `bind` is for sockets of its
    /// own, `family` for a mux.
    pub(crate) fn attach(
        &self,
        id: &SessionId,
        bind: Option<IpAddr>,
        family: Option<AddressFamily>,
        settings: &mut SettingEngine,
    ) -> Attached {
        match self {
            #[cfg(feature = "custom-net")]
            Self::Net(net) => {
                let session = net.session(id.as_str());
                session.install(settings);
                offer_only(bind, settings);
                Attached { session, mux: None }
            }
            Self::Mux(mux) => {
                let session = mux.net().session(id.as_str());
                #[cfg(feature = "custom-net")]
                session.install(settings);
                let mut mux = mux.for_session(&session);
                let has = |family: &AddressFamily| {
                    let mut locals = mux.local_addrs().into_iter();
                    locals.any(|local| family.is_of(local.ip()))
                };
                if let Some(family) = family.filter(has) {
                    mux = mux.with_family(family);
                }
                mux.install(settings);
                // Not used here, where it may be the only thing that `bind` is.
                let _ = bind;
                Attached {
                    session,
                    mux: Some(mux),
                }
            }
        }
    }
}

impl Attached {
    /// The local description as the peer is to see it.
    pub(crate) fn complete(&self, sdp: String) -> String {
        match &self.mux {
            Some(mux) => mux.complete(&sdp),
            None => sdp,
        }
    }
}

/// Gathers candidates of this address alone; of its family, where it is the IPv4 wildcard. The IPv6
/// one stands for both families.
#[cfg(feature = "custom-net")]
fn offer_only(bind: Option<IpAddr>, settings: &mut SettingEngine) {
    use webrtc::ice::network_type::NetworkType;

    let Some(bind) = bind else { return };
    if bind.is_ipv4() {
        settings.set_network_types(vec![NetworkType::Udp4]);
    }
    if !bind.is_unspecified() {
        settings.set_include_loopback_candidate(bind.is_loopback());
        settings.set_ip_filter(Box::new(move |address| address == bind));
    }
}
