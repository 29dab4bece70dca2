//! The server on one host, who is measured on another, and an operator beside the server.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use perpacket_lab::{Chain, Node, Sniffer, until};
use perpacket_server::history::{DatabaseUrl, History, Retention};
use perpacket_server::{Server, Sessions, Token, Transport};
use perpacket_webrtc::{CustomMux, CustomNet};
use serde_json::Value;
use tempfile::TempDir;

use super::page::Page;
use crate::api::operator::Operator;
use crate::support::connection::DEADLINE;
use crate::support::hosts::{Family, Side};
use crate::support::peer::Task;
use crate::whip::client::{Client, Offer};

/// What the links carry, bytes, from the client to the server.
const LINKS: [u32; 3] = [1500, MTU, 1500];

/// What the path carries.
pub(crate) const MTU: u32 = 1400;

pub(crate) struct Scene {
    pub(crate) chain: Chain,
    /// The client's host.
    pub(crate) far: Side,
    /// The server's host.
    pub(crate) near: Side,
    pub(crate) api: Operator,
    address: SocketAddr,
    _serving: Task<()>,
    _server: Server,
    _history: TempDir,
}

impl Scene {
    pub(crate) fn new(family: Family) -> Result<Self> {
        let chain = Chain::with_mtus(&LINKS)?;
        let (left, right) = chain.pairs()[family as usize];
        let far = side(&chain.left, &chain.links[0].a, left, CustomNet::new())?;
        // What routers say is shown to operators.
        let net = CustomNet::builder().icmp_errors(true).build();
        let near = side(&chain.right, &chain.links[2].b, right, net)?;

        let history = tempfile::tempdir()?;
        let database = DatabaseUrl::File(history.path().join("history.sqlite"));
        let token = Token::generate();
        let secret = token.reveal().to_owned();
        let udp = SocketAddr::new(right, 0);
        let (server, listener) = near.runtime.block_on(async {
            let history = History::open(&database, "lab", Retention::default()).await?;
            let mux = CustomMux::bind(&near.net, udp)?;
            let sessions = Sessions::builder(Transport::Mux(mux)).bind(right).build();
            let server = Server::builder(sessions, token)
                .name("lab")
                .history(history);
            anyhow::Ok((server.build(), TcpListener::bind((right, 0))?))
        })?;
        let address = listener.local_addr()?;
        let running = server.clone();
        let serving = near.runtime.spawn(async move {
            running.serve(listener, None).await.expect("it can listen");
        });
        let api = Operator {
            runtime: Arc::clone(&near.runtime),
            address,
            token: secret,
        };
        Ok(Self {
            chain,
            far,
            near,
            api,
            address,
            _serving: Task(serving),
            _server: server,
            _history: history,
        })
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The page of an operator who has given the token.
    pub(crate) fn operator(&self) -> Result<Page> {
        let page = Page::open(&self.near.node, &self.url("/dashboard"))?;
        page.fill("#token", &self.api.token)?;
        page.click("#login-form .primary")?;
        page.wait_for_text("main h1", "Clients")?;
        Ok(page)
    }

    /// The page of somebody who is measured, and what the server calls it.
    pub(crate) fn measured(&self) -> Result<(Page, String)> {
        let page = Page::open(&self.far.node, &self.url("/"))?;
        page.click("#start")?;
        page.wait(
            "to be connected",
            "!document.querySelector('#result').hidden",
        )?;
        let list = self.api.get("/api/clients?state=live")?.is(200)?;
        let clients = list["clients"].as_array().context("no clients")?;
        let mut browsers = clients.iter().filter(|it| it["user_agent"].is_string());
        let id = browsers.next().and_then(|it| it["id"].as_str());
        Ok((page, id.context("no browser")?.to_owned()))
    }

    /// A client that is a program, with all kinds of packets while the task is kept, and its name.
    pub(crate) fn program(&self) -> Result<(Client, String, Task<()>)> {
        let client = Client::connect_to(&self.far, self.address, &Offer::everything())?;
        let id = client.location()?.strip_prefix("/whip/");
        let id = id.context("another path")?.to_owned();
        let media = client.send_media();
        Ok((client, id, media))
    }

    /// Loses so many percent of the packets to a client, of which the server says this.
    pub(crate) fn lose(&self, view: &Value, percent: u8) -> Result<()> {
        let remote = view["pair"]["remote"].as_str().context("no address")?;
        let port = remote.parse::<SocketAddr>()?.port();
        Ok(self.chain.routers[0].nft(&format!(
            "table inet lossy {{
                chain c {{
                    type filter hook forward priority 0;
                    udp dport {port} numgen random mod 100 < {percent} drop;
                }}
            }}"
        ))?)
    }

    /// What the server says of a client.
    pub(crate) fn view(&self, id: &str) -> Result<Value> {
        self.api.get(&format!("/api/clients/{id}"))?.is(200)
    }

    /// Waits until what the server says of a client is so.
    pub(crate) fn wait_for(
        &self,
        id: &str,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let mut last = Value::Null;
        let seen = until(
            DEADLINE,
            || format!("the client {what}"),
            || {
                thread::sleep(Duration::from_millis(20));
                last = self.view(id).expect("an answer");
                Ok(is_so(&last).then(|| last.clone()))
            },
        );
        seen.with_context(|| format!("{last:#}"))
    }

    /// Waits until the server has looked at the path by itself: what it sends for that has headers of its own.
    pub(crate) fn wait_for_first_look(&self, id: &str) -> Result<Value> {
        let view = self.wait_for(id, "to have been looked at", |view| {
            view["path_mtu"].is_object()
        })?;
        ensure!(view["path_mtu"]["mtu"] == MTU, "{view:#}");
        Ok(view)
    }
}

fn side(node: &Node, interface: &str, address: IpAddr, net: CustomNet) -> Result<Side> {
    Ok(Side {
        node: node.clone(),
        interface: interface.to_owned(),
        address,
        // Nothing here needs it.
        gateway: address,
        runtime: Arc::new(node.runtime()?),
        net,
        wire: Sniffer::on(node, interface)?,
    })
}
