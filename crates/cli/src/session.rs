//! What every command tells of its session first.

use std::{io, time::Duration};

use serde::Serialize;

use crate::{
    client::Client,
    output::{Format, json, line, millis},
};

/// A session, once it is connected.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionLine {
    /// What was joined.
    url: String,
    /// What is deleted in the end, if the server says what.
    resource: Option<String>,
    /// The addresses of the pair that ICE has selected.
    local: String,
    remote: String,
    /// From the first word over HTTP until datagrams can be sent.
    took_us: u64,
}

impl SessionLine {
    pub(crate) async fn of(client: &Client) -> Self {
        let (local, remote) = client.pair().await;
        Self {
            url: client.url().to_string(),
            resource: client.resource.as_ref().map(ToString::to_string),
            local,
            remote,
            took_us: u64::try_from(client.took.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// Not in CSV, where there is one header.
    pub(crate) fn print(&self, format: Format) -> io::Result<()> {
        match format {
            Format::Json => json("session", self),
            Format::Csv => Ok(()),
            Format::Text => {
                let took = millis(Duration::from_micros(self.took_us));
                line(format_args!("{} joined in {took} ms", self.url))?;
                line(format_args!("{} → {}", self.local, self.remote))
            }
        }
    }
}
