//! The options of every class, changed again and again while a client is connected.

use std::net::IpAddr;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use perpacket_lab::Packet;
use perpacket_udp::MessageOptions;
use perpacket_webrtc::PacketClass;

use super::server::Server;
use crate::support::wire::{CLASSES, all_comply, sent_after};

/// When each phase's options were set: just before, and just after.
pub(crate) struct Phases(Vec<[SystemTime; 2]>);

impl Phases {
    /// Sets the options of the first phase.
    pub(crate) fn begin(server: &Server) -> Result<Self> {
        let mut phases = Self(Vec::new());
        phases.next(server)?;
        Ok(phases)
    }

    /// Sets the options of the next phase.
    pub(crate) fn next(&mut self, server: &Server) -> Result<()> {
        let before = SystemTime::now();
        for class in CLASSES {
            server.set(class, marking(self.0.len(), class))?;
        }
        self.0.push([before, SystemTime::now()]);
        Ok(())
    }

    /// Since when the options of this phase hold.
    pub(crate) fn since(&self) -> SystemTime {
        self.0.last().map_or(SystemTime::UNIX_EPOCH, |set| set[1])
    }

    /// Fails when a datagram that `from` sent does not have the options of its class and phase.
    pub(crate) fn hold(&self, packets: &[Packet], from: IpAddr) -> Result<()> {
        for (phase, [_, set]) in self.0.iter().enumerate() {
            let end = self.0.get(phase + 1).map(|next| next[0]);
            let sent = sent_after(packets, from, *set)
                .filter(|packet| end.is_none_or(|end| packet.at < end));
            all_comply(
                sent,
                |_, class| marking(phase, class),
                |_, class| marking(phase.saturating_sub(1), class),
            )
            .with_context(|| format!("phase {phase}"))?;
        }
        Ok(())
    }
}

/// Options that no other phase or class has.
fn marking(phase: usize, class: PacketClass) -> MessageOptions {
    let number = u8::try_from(phase * 8 + class.index()).expect("few");
    MessageOptions::NONE
        .with_ttl(100 + number)
        .with_df_bit((phase + class.index()).is_multiple_of(2))
        .with_tos((number << 2) | (number % 3))
}
