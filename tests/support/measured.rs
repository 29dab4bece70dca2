//! Two peer connections, and a prober of the path from the left one to the right one.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Result, ensure};
use perpacket_lab::{Node, NodeRuntime};
use perpacket_webrtc::{AddressFamily, CustomMux, CustomNet, Prober, Session};

use super::connection::DEADLINE;
use super::peer::{Peer, connect, negotiate};

/// How a peer connection gets its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Net,
    /// A mux on the wildcard address.
    Mux,
}

/// Two peers with an open data channel between them. All of the left one sends through perpacket.
pub(crate) struct Measured {
    pub(crate) left: Peer,
    pub(crate) right: Peer,
    /// The left one's session.
    pub(crate) session: Session,
    /// The right one's session.
    pub(crate) far_session: Session,
    pub(crate) prober: Arc<Prober>,
    _muxes: Vec<CustomMux>,
}

impl Measured {
    /// Connects a peer at `near` on `left` with one at `far` on `right`.
    pub(crate) fn new(
        [left, right]: [&Node; 2],
        [near, far]: [IpAddr; 2],
        way: Way,
    ) -> Result<Self> {
        let mut muxes = Vec::new();
        let mut peer = |node: &Node, address: IpAddr, name: &str| {
            let runtime = Arc::new(node.runtime()?);
            let session = CustomNet::new().session(name);
            let peer = match way {
                Way::Net => Peer::new(&runtime, address, &session)?,
                Way::Mux => {
                    let mux = mux(&runtime, address, &session)?;
                    let for_session = mux.for_session(&session);
                    muxes.push(mux);
                    Peer::with(&runtime, address, |settings| {
                        for_session.install(settings);
                        settings.set_ip_filter(Box::new(move |ip| ip == address));
                    })?
                }
            };
            anyhow::Ok((peer, session))
        };
        let (mut left, session) = peer(left, near, "left")?;
        let (mut right, far_session) = peer(right, far, "right")?;
        connect(&mut left, &mut right)?;
        let prober = left.block_on(Prober::new(&session, &left.connection))?;
        Ok(Self {
            left,
            right,
            session,
            far_session,
            prober: Arc::new(prober),
            _muxes: muxes,
        })
    }

    /// Restarts ICE, and waits until the session has another pair. Its prober does not hear of it.
    pub(crate) fn restart_ice(&self) -> Result<()> {
        let before = self.prober.remote();
        negotiate(&self.left, &self.right, true)?;
        perpacket_lab::until(
            DEADLINE,
            || "a new pair".to_owned(),
            || {
                let prober = Prober::new(&self.session, &self.left.connection);
                let prober = self.left.block_on(prober).ok();
                Ok(prober.filter(|prober| prober.remote() != before))
            },
        )?;
        ensure!(self.prober.remote() == before);
        Ok(())
    }
}

fn mux(runtime: &NodeRuntime, address: IpAddr, session: &Session) -> Result<CustomMux> {
    let (any, family): (IpAddr, _) = match address {
        IpAddr::V4(_) => ([0; 4].into(), AddressFamily::V4),
        IpAddr::V6(_) => ([0; 16].into(), AddressFamily::V6),
    };
    let any = SocketAddr::new(any, 0);
    let mux = runtime.block_on(async { CustomMux::bind(&session.net(), any) })?;
    Ok(mux.with_family(family))
}
