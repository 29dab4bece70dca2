use std::net::{IpAddr, SocketAddr};

use super::UdpSocket;
use crate::{Error, MessageOptions, OptionsError, PackedOptions, Transmit, transmit::Datagram};

impl UdpSocket {
    /// Sends one datagram with these options. Waits only while the send buffer is full. Dropping the
    /// future before it is done sends nothing.
    ///
    /// # Errors
    /// [`Error::Options`] for options that do not fit the destination; [`Error::Send`] with what the
    /// kernel said of this datagram, never of another.
    pub async fn send_to(
        &self,
        contents: &[u8],
        destination: SocketAddr,
        options: &MessageOptions,
    ) -> Result<usize, Error> {
        self.send(&Transmit::new(contents, destination).with_options(*options))
            .await
    }

    /// Sends one datagram; see [`send_to`](Self::send_to).
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn send(&self, transmit: &Transmit<'_>) -> Result<usize, Error> {
        transmit.options.validate_for(transmit.destination)?;
        self.give(&transmit.datagram()).await
    }

    /// Sends one datagram without waiting: a full send buffer is an [`Error::Send`] of the kind
    /// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    #[inline]
    pub fn try_send(&self, transmit: &Transmit<'_>) -> Result<usize, Error> {
        transmit.options.validate_for(transmit.destination)?;
        self.try_give(&transmit.datagram())
    }

    /// Sends one datagram with options that are packed already, and their source address beside them; see
    /// [`send_to`](Self::send_to).
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn send_packed(
        &self,
        contents: &[u8],
        destination: &SocketAddr,
        options: PackedOptions,
        source: Option<&IpAddr>,
    ) -> Result<usize, Error> {
        let datagram = Datagram {
            source,
            ..Datagram::new(contents, destination, options)
        };
        validate(&datagram)?;
        self.give(&datagram).await
    }

    /// The same without waiting, as [`try_send`](Self::try_send): what takes the fewest steps, for whoever keeps options
    /// by the thousand.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    #[expect(clippy::inline_always, reason = "it calls one function")]
    #[inline(always)]
    pub fn try_send_packed(
        &self,
        contents: &[u8],
        destination: &SocketAddr,
        options: PackedOptions,
        source: Option<&IpAddr>,
    ) -> Result<usize, Error> {
        let datagram = Datagram {
            source,
            ..Datagram::new(contents, destination, options)
        };
        validate(&datagram)?;
        self.try_give(&datagram)
    }

    async fn give(&self, datagram: &Datagram<'_>) -> Result<usize, Error> {
        let given = self.socket.send(datagram).await;
        given.map_err(|source| send_error(datagram, source))
    }

    #[inline]
    fn try_give(&self, datagram: &Datagram<'_>) -> Result<usize, Error> {
        let given = self.socket.try_send(datagram);
        given.map_err(|source| send_error(datagram, source))
    }
}

#[inline]
fn validate(datagram: &Datagram<'_>) -> Result<(), OptionsError> {
    if datagram.source.is_none() && datagram.options.is_valid() {
        Ok(())
    } else {
        validate_all(datagram)
    }
}

#[inline(never)]
fn validate_all(datagram: &Datagram<'_>) -> Result<(), OptionsError> {
    let Transmit { options, .. } = datagram.transmit();
    options.validate_for(*datagram.destination)
}

#[cold]
fn send_error(datagram: &Datagram<'_>, source: std::io::Error) -> Error {
    Error::Send {
        destination: *datagram.destination,
        length: datagram.contents.len(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packed_options_are_checked_too() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let socket = UdpSocket::bind(any).expect("a socket");
        let to = socket.local_addr();
        let try_send = |options: MessageOptions| {
            let packed = PackedOptions::from(&options);
            socket.try_send_packed(b"x", &to, packed, options.source.as_ref())
        };
        let v6 = "fd00::1".parse().expect("an address");
        for refused in [
            MessageOptions::NONE.with_ttl(0),
            MessageOptions::NONE.with_source(v6),
        ] {
            assert!(matches!(try_send(refused), Err(Error::Options(_))));
        }
        let good = MessageOptions::NONE.with_ttl(9).with_source(to.ip());
        let packed = PackedOptions::from(&good);
        let sent = socket.send_packed(b"x", &to, packed, good.source.as_ref());
        assert_eq!(sent.await.expect("sent"), 1);
        let meta = socket.recv_from(&mut [0; 9]).await.expect("received");
        assert_eq!(meta.ttl, socket.capabilities().recv_meta.then_some(9));
    }
}
