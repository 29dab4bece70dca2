//! `Net::Ifs`: the operating system, as upstream has it.

use std::net::UdpSocket;

use anyhow::Result;
use webrtc_util::Error;
use webrtc_util::vnet::net::Net;

#[tokio::test]
async fn binds_a_real_socket() -> Result<()> {
    let conn = Net::new(None).bind("127.0.0.1:0".parse()?).await?;
    let address = conn.local_addr()?;
    assert!(UdpSocket::bind(address).is_err(), "the port is taken");

    let peer = UdpSocket::bind("127.0.0.1:0")?;
    peer.set_read_timeout(Some(crate::DEADLINE))?;
    conn.send_to(b"out", peer.local_addr()?).await?;
    let mut buf = [0; 10];
    let (len, source) = peer.recv_from(&mut buf)?;
    assert_eq!((&b"out"[..], address), (&buf[..len], source));
    Ok(())
}

#[tokio::test]
async fn dials_and_resolves_as_the_system() -> Result<()> {
    let net = Net::new(None);
    let peer = UdpSocket::bind("127.0.0.1:0")?;
    peer.set_read_timeout(Some(crate::DEADLINE))?;
    let address = peer.local_addr()?.to_string();
    assert_eq!(address, net.resolve_addr(true, &address).await?.to_string());
    assert!(net.resolve_addr(false, &address).await.is_err());

    let conn = net.dial(true, &address).await?;
    conn.send(b"out").await?;
    let mut buf = [0; 10];
    let (len, source) = peer.recv_from(&mut buf)?;
    assert_eq!((&b"out"[..], conn.local_addr()?), (&buf[..len], source));
    Ok(())
}

#[tokio::test]
async fn lists_the_interfaces_and_is_not_virtual() {
    let net = Net::new(None);
    let interfaces = net.get_interfaces().await;
    let loopback = interfaces
        .iter()
        .find(|i| i.addrs().iter().any(|a| a.addr().is_loopback()))
        .expect("a loopback interface");
    let same = net
        .get_interface(loopback.name())
        .await
        .expect("by its name");
    assert_eq!(loopback.addrs(), same.addrs());
    assert!(net.get_interface("none of this name").await.is_none());
    assert!(!net.is_virtual());
    assert!(matches!(net.get_nic(), Err(Error::ErrVnetDisabled)));
}
