//! The server on one host, and clients on the other.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use perpacket_lab::{NodeRuntime, until};
use perpacket_server::history::{DatabaseUrl, History, Retention};
use perpacket_server::{Server, ServerBuilder, Sessions, Token, Transport};
use perpacket_webrtc::CustomMux;
use serde_json::Value;

use super::operator::Operator;
use crate::support::connection::DEADLINE;
use crate::support::hosts::{Family, Hosts};
use crate::support::peer::Task;
use crate::whip::client::{Client, Offer};

pub(crate) struct Scene {
    pub(crate) hosts: Hosts,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) operator: Operator,
    /// Of the server's host.
    pub(crate) runtime: Arc<NodeRuntime>,
    _serving: Task<()>,
}

impl Scene {
    pub(crate) fn new(family: Family) -> Result<Self> {
        Self::with(family, |server| server)
    }

    /// With a history in memory.
    pub(crate) fn recorded(family: Family) -> Result<Self> {
        Self::recorded_with(family, |server| server)
    }

    pub(crate) fn recorded_with(
        family: Family,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder + Send,
    ) -> Result<Self> {
        let hosts = Hosts::new(family)?;
        let history = hosts.sides[1].runtime.block_on(async {
            History::open(&DatabaseUrl::Memory, "lab", Retention::default()).await
        })?;
        Self::on(hosts, |server| configure(server.history(history)))
    }

    pub(crate) fn with(
        family: Family,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder + Send,
    ) -> Result<Self> {
        Self::on(Hosts::new(family)?, configure)
    }

    fn on(
        hosts: Hosts,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder + Send,
    ) -> Result<Self> {
        let side = &hosts.sides[1];
        let runtime = Arc::clone(&side.runtime);
        let token = Token::generate();
        let operator_token = token.reveal().to_owned();
        let udp = SocketAddr::new(side.address, 0);
        let (server, listener) = runtime.block_on(async {
            let mux = CustomMux::bind(&side.net, udp)?;
            let sessions = Sessions::builder(Transport::Mux(mux))
                .bind(side.address)
                .build();
            let server = configure(Server::builder(sessions, token).name("lab")).build();
            let listener = TcpListener::bind((side.address, 0))?;
            anyhow::Ok((server, listener))
        })?;
        let address = listener.local_addr()?;
        let running = server.clone();
        let serving = runtime.spawn(async move {
            running.serve(listener, None).await.expect("it can listen");
        });
        let operator = Operator {
            runtime: Arc::clone(&hosts.sides[0].runtime),
            address,
            token: operator_token,
        };
        Ok(Self {
            hosts,
            server,
            address,
            operator,
            runtime,
            _serving: Task(serving),
        })
    }

    /// A client with an open data channel, and its name.
    pub(crate) fn client(&self, offer: &Offer) -> Result<(Client, String)> {
        let client = Client::connect_to(&self.hosts.sides[0], self.address, offer)?;
        let location = client.location()?;
        let id = location.strip_prefix("/whip/").context("another path")?;
        let id = id.to_owned();
        // The data channel may be open here before the server knows that it is connected.
        self.wait_for(&id, "to be connected", |view| view["state"] == "connected")?;
        Ok((client, id))
    }

    /// Waits until what the server says of a client is so.
    pub(crate) fn wait_for(
        &self,
        id: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let path = format!("/api/clients/{id}");
        let mut last = Value::Null;
        let seen = until(
            DEADLINE,
            || format!("the client {what}"),
            || {
                let answer = self.operator.get(&path).expect("an answer");
                last = answer.json;
                std::thread::sleep(Duration::from_millis(20));
                Ok(is_so(&last).then(|| last.clone()))
            },
        );
        seen.with_context(|| format!("{last:#}"))
    }
}
