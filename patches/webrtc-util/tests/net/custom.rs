//! `Net::Custom`: every call reaches the provider, and what it leaves out the system does.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use async_trait::async_trait;
use webrtc_util::vnet::interface::Interface;
use webrtc_util::vnet::net::{Net, NetProvider};
use webrtc_util::{Conn, Error};

/// Notes each call, and passes it to a network of upstream's.
pub(crate) struct Recorder {
    net: Net,
    pub(crate) calls: Mutex<Vec<String>>,
}

impl Recorder {
    pub(crate) fn of(net: Net) -> Arc<Self> {
        let calls = Mutex::default();
        Arc::new(Self { net, calls })
    }

    fn note(&self, call: String) {
        self.calls.lock().expect("no panic meanwhile").push(call);
    }
}

#[async_trait]
impl NetProvider for Recorder {
    async fn bind(&self, addr: SocketAddr) -> webrtc_util::Result<Arc<dyn Conn + Send + Sync>> {
        self.note(format!("bind {addr}"));
        self.net.bind(addr).await
    }

    async fn interfaces(&self) -> Vec<Interface> {
        self.note("interfaces".to_owned());
        self.net.get_interfaces().await
    }

    async fn resolve_addr(&self, use_ipv4: bool, address: &str) -> webrtc_util::Result<SocketAddr> {
        self.note(format!("resolve {use_ipv4} {address}"));
        self.net.resolve_addr(use_ipv4, address).await
    }
}

/// Only what must be written.
struct Least;

#[async_trait]
impl NetProvider for Least {
    async fn bind(&self, addr: SocketAddr) -> webrtc_util::Result<Arc<dyn Conn + Send + Sync>> {
        Net::Ifs(Vec::new()).bind(addr).await
    }
}

#[tokio::test]
async fn every_call_reaches_the_provider() -> Result<()> {
    let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let to = peer.local_addr()?;
    let recorder = Recorder::of(Net::new(None));
    let net = Net::Custom(Arc::clone(&recorder) as Arc<dyn NetProvider>);

    net.bind("127.0.0.1:0".parse()?).await?;
    net.get_interfaces().await;
    net.get_interface("lo").await;
    net.resolve_addr(true, &to.to_string()).await?;
    net.dial(true, &to.to_string()).await?;

    assert_eq!(
        vec![
            "bind 127.0.0.1:0".to_owned(),
            "interfaces".to_owned(),
            "interfaces".to_owned(),
            format!("resolve true {to}"),
            // A dial is these two.
            format!("resolve true {to}"),
            "bind 0.0.0.0:0".to_owned(),
        ],
        *recorder.calls.lock().unwrap()
    );
    assert!(!net.is_virtual());
    assert!(matches!(net.get_nic(), Err(Error::ErrVnetDisabled)));
    Ok(())
}

#[tokio::test]
async fn the_system_does_what_the_provider_leaves_out() -> Result<()> {
    let net = Net::Custom(Arc::new(Least));
    for (v4, host) in [(true, "127.0.0.1"), (false, "[::1]")] {
        let Ok(peer) = std::net::UdpSocket::bind(format!("{host}:0")) else {
            ensure!(!v4, "no IPv4");
            eprintln!("NOT RUN for IPv6: this host has no {host}");
            ensure!(std::env::var_os("CI").is_none(), "CI must have IPv6");
            continue;
        };
        peer.set_read_timeout(Some(crate::DEADLINE))?;
        let to = peer.local_addr()?;
        assert_eq!(to, net.resolve_addr(v4, &to.to_string()).await?);
        assert!(net.resolve_addr(!v4, &to.to_string()).await.is_err());
        assert!(net.dial(!v4, &to.to_string()).await.is_err());

        let conn = net.dial(v4, &to.to_string()).await?;
        conn.send(b"out").await?;
        let mut buf = [0; 10];
        let (len, source) = peer.recv_from(&mut buf)?;
        assert_eq!((&b"out"[..], conn.local_addr()?), (&buf[..len], source));
    }
    Ok(())
}

/// The address that comes and goes, in a namespace of the test's own.
const LATER: &str = "192.0.2.9";
const NAMESPACE: &str = "IN_A_NAMESPACE_OF_ITS_OWN";

#[test]
fn interfaces_are_read_anew_on_each_call() -> Result<()> {
    let own_namespace = |flags: &str, program: &OsStr, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg(flags).arg(program).args(args);
        command.env(NAMESPACE, "1").output()
    };
    // Without privilege it takes a user namespace; where those are forbidden, root may do without.
    let possible = ["-Urn", "-n"].into_iter().find(|flags| {
        own_namespace(flags, "true".as_ref(), &[]).is_ok_and(|out| out.status.success())
    });
    let Some(flags) = possible else {
        eprintln!("NOT RUN: cannot make a network namespace as this user");
        ensure!(std::env::var_os("CI").is_none(), "CI must allow it");
        return Ok(());
    };
    let test = std::env::current_exe()?;
    let args = ["--ignored", "--exact", "custom::in_a_namespace"];
    let inside = own_namespace(flags, test.as_ref(), &args)?;
    let said = String::from_utf8_lossy(&inside.stdout);
    assert!(
        inside.status.success() && said.contains("1 passed"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "changes the addresses of its network namespace; run by the test above"]
async fn in_a_namespace() -> Result<()> {
    async fn has(net: &Net, address: &str) -> bool {
        let interfaces = net.get_interfaces().await;
        let mut addresses = interfaces.iter().flat_map(Interface::addrs);
        addresses.any(|a| a.addr().to_string() == address)
    }
    fn ip(args: &str) -> Result<()> {
        let status = Command::new("ip").args(args.split(' ')).status();
        ensure!(status.context("ip")?.success(), "ip {args}");
        Ok(())
    }

    ensure!(std::env::var_os(NAMESPACE).is_some(), "on the host itself");
    ip("link set lo up")?;
    let (system, custom) = (Net::new(None), Net::Custom(Arc::new(Least)));
    assert!(!has(&custom, LATER).await);
    ip(&format!("address add {LATER}/32 dev lo"))?;
    assert!(has(&custom, LATER).await);
    assert!(!has(&system, LATER).await, "upstream's list is a snapshot");
    ip(&format!("address del {LATER}/32 dev lo"))?;
    assert!(!has(&custom, LATER).await);
    Ok(())
}
