//! How many connections there may be, in all and from one address.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum_server::accept::Accept;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::api::network;

/// How long what was sent may wait for its receiver.
#[cfg(target_os = "linux")]
const UNHEARD: Duration = Duration::from_secs(30);

/// Lets connections in as long as there is room, and closes the others at once. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    most_of_one: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// Those that have any.
    by_address: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            most_of_one,
            open: Mutex::default(),
        }))
    }

    /// Room for one more from this address.
    pub(crate) fn room(&self, address: IpAddr) -> Option<Room> {
        let address = network(address.to_canonical());
        let mut open = self.0.open();
        let of_one = open.by_address.get(&address).copied().unwrap_or_default();
        if open.all >= self.0.most || of_one >= self.0.most_of_one {
            return None;
        }
        open.all += 1;
        open.by_address.insert(address, of_one + 1);
        Some(Room {
            shared: Arc::clone(&self.0),
            address,
        })
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is given back with this.
#[derive(Debug)]
pub(crate) struct Room {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        open.all -= 1;
        if let Some(of_one) = open.by_address.get_mut(&self.address) {
            *of_one -= 1;
            if *of_one == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

impl<S> Accept<TcpStream, S> for Admission {
    type Stream = Admitted;
    type Service = S;
    type Future = Ready<io::Result<(Admitted, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let admit = || {
            let address = stream.peer_addr()?.ip();
            let room = self.room(address).ok_or_else(|| {
                tracing::debug!(%address, "a connection too many");
                io::Error::other("there are too many connections")
            })?;
            // Events are small, and are wanted at once.
            stream.set_nodelay(true)?;
            // Who is gone without a word, or does not read, is given up on (tcp(7)).
            #[cfg(target_os = "linux")]
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNHEARD))?;
            Ok(room)
        };
        ready(admit().map(|room| {
            let admitted = Admitted {
                stream,
                _room: room,
            };
            (admitted, service)
        }))
    }
}

/// A connection that there was room for.
#[derive(Debug)]
pub(crate) struct Admitted {
    stream: TcpStream,
    _room: Room,
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn room_is_bounded_and_given_back() {
        let admission = Admission::new(3, 2);
        let first = admission.room(address(1)).expect("room");
        let second = admission.room(address(1)).expect("room");
        assert!(admission.room(address(1)).is_none(), "two of one address");
        let third = admission.room(address(2)).expect("room");
        assert!(admission.room(address(3)).is_none(), "three in all");
        drop(second);
        let again = admission.room(address(1)).expect("room again");
        drop((first, third, again));
        let open = admission.0.open();
        assert_eq!((open.all, open.by_address.len()), (0, 0));
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let admission = Admission::new(9, 1);
        let _room = admission.room(address(1)).expect("room");
        let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert!(admission.room(mapped.into()).is_none());
    }
}
