//! Upstream's virtual network, through the replaced `Net`.

use std::sync::Arc;

use anyhow::Result;
use tokio::sync::Mutex;
use webrtc_util::Error;
use webrtc_util::vnet::net::{Net, NetConfig};
use webrtc_util::vnet::router::{Router, RouterConfig};

use crate::exchange;

pub(crate) const A: &str = "192.0.2.1";
pub(crate) const B: &str = "192.0.2.2";

/// Two hosts with the addresses [`A`] and [`B`], and the running router between them, which must
/// be kept.
pub(crate) async fn two_hosts() -> Result<(Net, Net, Arc<Mutex<Router>>)> {
    let router = Arc::new(Mutex::new(Router::new(RouterConfig {
        cidr: "192.0.2.0/24".to_owned(),
        ..Default::default()
    })?));
    let mut hosts = Vec::new();
    for ip in [A, B] {
        let net = Net::new(Some(NetConfig {
            static_ips: vec![ip.to_owned()],
            ..Default::default()
        }));
        let nic = net.get_nic()?;
        router.lock().await.add_net(Arc::clone(&nic)).await?;
        nic.lock().await.set_router(Arc::clone(&router)).await?;
        hosts.push(net);
    }
    router.lock().await.start().await?;
    let b = hosts.pop().expect("two were made");
    let a = hosts.pop().expect("two were made");
    Ok((a, b, router))
}

#[tokio::test]
async fn carries_datagrams_between_two_hosts() -> Result<()> {
    let (a, b, _router) = two_hosts().await?;
    let a = a.bind(format!("{A}:5000").parse()?).await?;
    let b = b.bind(format!("{B}:0").parse()?).await?;
    exchange(&*a, &*b).await
}

#[tokio::test]
async fn keeps_its_addresses_apart_from_the_systems() -> Result<()> {
    let (a, b, _router) = two_hosts().await?;
    assert!(a.is_virtual());
    let eth0 = a.get_interface("eth0").await.expect("every host has one");
    assert_eq!(format!("{A}/24"), eth0.addrs()[0].to_string());
    let names: Vec<_> = a.get_interfaces().await;
    assert_eq!(
        ["lo0", "eth0"],
        [names[0].name(), names[1].name()],
        "upstream's two, in its order"
    );
    let foreign = b.bind(format!("{A}:5000").parse()?).await;
    assert!(matches!(foreign, Err(Error::ErrCantAssignRequestedAddr)));
    Ok(())
}

#[tokio::test]
async fn dials_by_the_routers_names() -> Result<()> {
    let (a, b, router) = two_hosts().await?;
    {
        let mut router = router.lock().await;
        router
            .add_host("b.example".to_owned(), B.to_owned())
            .await?;
    }
    assert_eq!(
        format!("{B}:7"),
        a.resolve_addr(true, "b.example:7").await?.to_string()
    );

    let b = b.bind(format!("{B}:7").parse()?).await?;
    let a = a.dial(true, "b.example:7").await?;
    a.send(b"hello").await?;
    let mut buf = [0; 10];
    let (len, source) = b.recv_from(&mut buf).await?;
    assert_eq!((&b"hello"[..], a.local_addr()?), (&buf[..len], source));
    Ok(())
}
