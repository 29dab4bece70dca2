//! Servers that are not what they should be.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use perpacket_lab::Node;

type Requests = Arc<Mutex<Vec<String>>>;

/// An HTTP server that has one answer for each method, and keeps what it was asked.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    requests: Requests,
}

impl Stub {
    /// One that answers what `answer` makes of a request.
    pub(crate) fn start(
        node: &Node,
        address: IpAddr,
        answer: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = node.run(|| TcpListener::bind((address, 0)))?;
        let address = listener.local_addr()?;
        let requests = Requests::default();
        let (to, answer) = (Arc::clone(&requests), Arc::new(answer));
        // Both kinds of thread end with the process at the latest.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (to, answer) = (Arc::clone(&to), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &to, &*answer));
            }
        });
        Ok(Self { address, requests })
    }

    /// What it was asked so far, headers included.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/whip", self.address)
    }
}

/// A response with a body.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

/// What another server, on the same host, answers.
pub(crate) fn forward(node: &Node, server: SocketAddr, request: &str) -> String {
    let forward = || {
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while whole(&bytes).is_none() {
            match stream.read(&mut buffer)? {
                0 => break,
                length => bytes.extend_from_slice(&buffer[..length]),
            }
        }
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    node.run(forward)
        .unwrap_or_else(|error| response("502 Bad Gateway", "", &error.to_string()))
}

fn serve(mut stream: TcpStream, requests: &Requests, answer: &dyn Fn(&str) -> String) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
        }
        let Some(request) = whole(&bytes) else {
            continue;
        };
        bytes.clear();
        let mut all = requests.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(request.clone());
        drop(all);
        if stream.write_all(answer(&request).as_bytes()).is_err() {
            return;
        }
    }
}

/// A message of HTTP, if all of it is there.
fn whole(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Some(0), |(_, length)| length.trim().parse().ok())?;
    (body.len() >= length).then(|| text.clone().into_owned())
}
