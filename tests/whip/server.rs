//! The server, on a host of the lab.

use std::collections::HashSet;
use std::net::SocketAddr;

use anyhow::Result;
use perpacket_lab::until;
use perpacket_server::{Sessions, SessionsBuilder, Transport, whip};
use perpacket_webrtc::{CustomMux, CustomNet};
use tokio::net::TcpListener;

use crate::support::connection::DEADLINE;
use crate::support::hosts::Side;
use crate::support::peer::Task;

/// What the server's sessions send through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sockets {
    Own,
    Mux,
}

pub(crate) struct Server {
    pub(crate) sessions: Sessions,
    pub(crate) address: SocketAddr,
    net: CustomNet,
    mux: Option<CustomMux>,
    _running: Task<()>,
}

impl Server {
    pub(crate) fn start(
        side: &Side,
        sockets: Sockets,
        configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
    ) -> Result<Self> {
        let net = side.net.clone();
        let (transport, mux) = match sockets {
            Sockets::Own => (Transport::Net(net.clone()), None),
            Sockets::Mux => {
                // Of both families: the session has to be of its client's.
                let mux = CustomMux::builder(&net)
                    .bind("0.0.0.0:0".parse()?)
                    .bind("[::]:0".parse()?);
                let mux = side.runtime.block_on(async { mux.build() })?;
                (Transport::Mux(mux.clone()), Some(mux))
            }
        };
        let sessions = configure(Sessions::builder(transport).bind(side.address)).build();
        let listener = side
            .runtime
            .block_on(TcpListener::bind((side.address, 0)))?;
        let address = listener.local_addr()?;
        let service = whip::router(sessions.clone());
        let running = side.runtime.spawn(async move {
            let service = service.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, service).await.expect("it never ends");
        });
        Ok(Self {
            sessions,
            address,
            net,
            mux,
            _running: Task(running),
        })
    }

    /// The addresses of the sockets of all sessions.
    pub(crate) fn sockets(&self) -> HashSet<SocketAddr> {
        let conns = self.net.snapshot().conns.into_iter();
        let of_sessions = conns.filter(|conn| conn.session.is_some());
        of_sessions.map(|conn| conn.local).collect()
    }

    /// Waits until there is neither a session nor a socket of one, or what stands for one at the mux.
    pub(crate) fn is_empty(&self, side: &Side) -> Result<()> {
        let mux = self.mux.as_ref();
        let locals = mux.map(CustomMux::local_addrs).unwrap_or_default();
        let of_mux = |port: &u16| locals.iter().any(|local| local.port() == *port);
        until(
            DEADLINE,
            || {
                let (sessions, sockets) = (self.sessions.list(), self.sockets());
                let mux = mux.map(CustomMux::snapshot);
                let named = self.net.snapshot().sessions;
                let ports = side.udp_ports();
                format!("{sessions:?}, {sockets:?}, {mux:?}, {named:?}, {ports:?} to go")
            },
            || {
                let snapshot = self.net.snapshot();
                let of_sessions = snapshot.conns.iter().any(|conn| conn.session.is_some());
                let at_mux = mux.map(CustomMux::snapshot);
                let ports = side.udp_ports().expect("/proc is there");
                let gone = self.sessions.list().is_empty()
                    && !of_sessions
                    && snapshot.sessions.is_empty()
                    && at_mux.is_none_or(|mux| mux.connections + mux.addresses == 0)
                    && ports.iter().all(of_mux);
                Ok(gone.then_some(()))
            },
        )?;
        Ok(())
    }
}
