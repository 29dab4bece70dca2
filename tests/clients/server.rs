//! The WHIP server, inside a node.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Node, NodeRuntime};
use perpacket_path::{PathMtu, PathMtuConfig, Whose};
use perpacket_server::{Sessions, Transport, whip};
use perpacket_udp::MessageOptions;
use perpacket_webrtc::{CustomMux, CustomNet, PacketClass, Prober};
use tokio::net::TcpListener;

/// Where its sockets come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// `CustomNet`: each peer connection has its own.
    Net,
    /// `CustomMux`: all share one.
    Mux,
}

pub(crate) struct Server {
    runtime: NodeRuntime,
    net: CustomNet,
    sessions: Sessions,
    url: String,
    port: Option<u16>,
}

impl Server {
    /// Listens on this address, and offers it and no other.
    pub(crate) fn start(node: &Node, address: IpAddr, way: Way) -> Result<Self> {
        let runtime = node.runtime()?;
        let net = CustomNet::new();
        let (transport, port) = match way {
            Way::Net => (Transport::Net(net.clone()), None),
            Way::Mux => {
                let bound = async { CustomMux::bind(&net, (address, 0).into()) };
                let mux = runtime.block_on(bound)?;
                let port = mux.local_addrs().first().map(SocketAddr::port);
                (Transport::Mux(mux), port)
            }
        };
        let sessions = Sessions::builder(transport).bind(address).build();
        let listener = runtime.block_on(TcpListener::bind((address, 0)))?;
        let url = format!("http://{}/whip", listener.local_addr()?);
        let app = whip::router(sessions.clone());
        runtime.spawn(async move {
            let app = app.into_make_service_with_connect_info::<SocketAddr>();
            axum::serve(listener, app).await
        });
        Ok(Self {
            runtime,
            net,
            sessions,
            url,
            port,
        })
    }

    /// Where to post offers to.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The one UDP port, where there is only one.
    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }

    /// Sets the options of a class, from the next datagram on.
    pub(crate) fn set(&self, class: PacketClass, options: MessageOptions) -> Result<()> {
        Ok(self.net.set_class_options(class, options)?)
    }

    /// Asks the path of the only session, whose cable carries packets of `mtu` bytes, how large a packet it carries, and
    /// says how large a STUN message its client answers. Fails unless that is `reads` bytes, or all that the cable
    /// carries.
    pub(crate) fn accepted(&self, reads: Option<usize>, mtu: usize) -> Result<String> {
        let session = self.sessions.list().pop().context("no session")?;
        let report = self.runtime.block_on(async {
            let connection = self.sessions.connected(&session.id).await;
            let connection = connection.context("the session has ended")?;
            let prober = Prober::new(&session.session, &connection).await?;
            let prober = Arc::new(prober);
            let config = PathMtuConfig {
                refine: true,
                ..PathMtuConfig::default()
            };
            let headers = prober.overhead();
            let report = PathMtu::new(prober, config).start().finish().await?;
            anyhow::Ok((report, headers))
        });
        let (report, headers) = report?;
        let stun = report.mtu - headers;
        let whose = report.peer_limit.map(|limit| limit.whose);
        match reads {
            None => ensure!(stun == mtu - headers && whose.is_none(), "{report:#?}"),
            Some(reads) => ensure!(stun == reads && whose == Some(Whose::Peer), "{report:#?}"),
        }
        Ok(format!("{stun} bytes"))
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.list().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A peer connection that is dropped before it is closed leaves tasks behind.
        self.runtime.block_on(self.sessions.close_all());
    }
}
