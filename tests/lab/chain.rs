//! A host, some routers, a host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::Result;
use crate::link::Link;
use crate::node::Node;
use crate::topology::Lab;

/// Two hosts with a line of routers between them, IPv4 and IPv6, every node with routes to every link.
///
/// Link `i`, counted from the left, is `10.0.i.0/24` and `fd00:0:0:i::/64`; its left end is `.1` and `::1`, its
/// right end `.2` and `::2`.
#[derive(Debug)]
pub struct Chain {
    /// The network; more can be added to it.
    pub lab: Lab,
    /// The host at the left end.
    pub left: Node,
    /// The routers from left to right.
    pub routers: Vec<Node>,
    /// The host at the right end.
    pub right: Node,
    /// The links from left to right; `a` is a link's left end.
    pub links: Vec<Link>,
}

impl Chain {
    /// A chain of `routers` routers, with one MTU (bytes) on every link.
    ///
    /// # Errors
    /// When the kernel refuses a step; usually [`enter`](crate::enter) was not called.
    pub fn new(routers: u8, mtu: u32) -> Result<Self> {
        Self::with_mtus(&vec![mtu; usize::from(routers) + 1])
    }

    /// A chain with one link for each MTU (bytes), from left to right, and so with one router fewer.
    ///
    /// # Panics
    /// When there is no MTU or more than 254.
    ///
    /// # Errors
    /// When the kernel refuses a step; usually [`enter`](crate::enter) was not called.
    pub fn with_mtus(mtus: &[u32]) -> Result<Self> {
        let links_number = u8::try_from(mtus.len()).expect("fewer than 255 links");
        assert!(links_number > 0, "two hosts need a link");

        let lab = Lab::new();
        let left = lab.host("left")?;
        let routers = (1..links_number)
            .map(|i| lab.router(&format!("r{i}")))
            .collect::<Result<Vec<_>>>()?;
        let right = lab.host("right")?;

        let line: Vec<&Node> = [&left]
            .into_iter()
            .chain(&routers)
            .chain([&right])
            .collect();
        let mut links = Vec::new();
        for ((number, ends), mtu) in (0..).zip(line.windows(2)).zip(mtus) {
            let address = |end| format!("{}/24", v4(number, end));
            let address6 = |end| format!("{}/64", v6(number, end));
            links.push(
                lab.link(ends[0], ends[1])
                    .mtu(*mtu)
                    .v4(&address(Left), &address(Right))
                    .v6(&address6(Left), &address6(Right))
                    .up()?,
            );
        }
        for (place, node) in (0..).zip(&line) {
            add_routes(node, place, links_number)?;
        }
        Ok(Self {
            left: left.clone(),
            right: right.clone(),
            routers: routers.clone(),
            lab,
            links,
        })
    }

    /// IPv4 address of the left host.
    #[must_use]
    pub fn left_v4(&self) -> IpAddr {
        v4(0, Left).into()
    }

    /// IPv6 address of the left host.
    #[must_use]
    pub fn left_v6(&self) -> IpAddr {
        v6(0, Left).into()
    }

    /// IPv4 address of the right host.
    #[must_use]
    pub fn right_v4(&self) -> IpAddr {
        v4(self.last_link(), Right).into()
    }

    /// IPv6 address of the right host.
    #[must_use]
    pub fn right_v6(&self) -> IpAddr {
        v6(self.last_link(), Right).into()
    }

    /// The two hosts' addresses, left and right: IPv4, then IPv6.
    #[must_use]
    pub fn pairs(&self) -> [(IpAddr, IpAddr); 2] {
        [
            (self.left_v4(), self.right_v4()),
            (self.left_v6(), self.right_v6()),
        ]
    }

    /// Addresses, IPv4 and IPv6, from which router `hop`, counted from 1 at the left, answers the left host.
    ///
    /// # Panics
    /// When there is no such router.
    #[must_use]
    pub fn router_seen_from_left(&self, hop: u8) -> (IpAddr, IpAddr) {
        assert!((1..=self.last_link()).contains(&hop), "no router {hop}");
        (v4(hop - 1, Right).into(), v6(hop - 1, Right).into())
    }

    fn last_link(&self) -> u8 {
        u8::try_from(self.routers.len()).expect("at most 253 routers")
    }
}

/// An end of a link; its number is the last part of the address.
#[derive(Clone, Copy)]
enum End {
    Left = 1,
    Right = 2,
}
use End::{Left, Right};

fn v4(link: u8, end: End) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, link, end as u8)
}

fn v6(link: u8, end: End) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, link.into(), 0, 0, 0, end as u16)
}

/// Routes from the node at `place` to the links that it is not on: those on the left through its left
/// neighbour, those on the right through its right one. For the hosts that is a default route.
fn add_routes(node: &Node, place: u8, links: u8) -> Result<()> {
    let via = |link, neighbour| {
        [
            v4(link, neighbour).to_string(),
            v6(link, neighbour).to_string(),
        ]
    };
    if place == 0 || place == links {
        let [gateway, gateway6] = if place == 0 {
            via(0, Right)
        } else {
            via(links - 1, Left)
        };
        node.route("0.0.0.0/0", &gateway)?;
        return node.route("::/0", &gateway6);
    }
    for link in (0..links).filter(|link| *link + 1 != place && *link != place) {
        let [gateway, gateway6] = if link < place {
            via(place - 1, Left)
        } else {
            via(place, Right)
        };
        node.route(&format!("10.0.{link}.0/24"), &gateway)?;
        node.route(&format!("{}/64", v6(link, Left)), &gateway6)?;
    }
    Ok(())
}
