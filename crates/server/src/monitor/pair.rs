use std::net::SocketAddr;

use webrtc::ice_transport::{
    ice_candidate::RTCIceCandidate, ice_candidate_pair::RTCIceCandidatePair,
};

use crate::{live::LiveClient, model};

/// The pair of candidates that ICE has selected, as it was last seen.
#[derive(Debug, Default)]
pub(super) struct Pairing(Option<RTCIceCandidatePair>);

impl Pairing {
    /// Looks which it is, and says whether it is another.
    pub(super) async fn look(&mut self, client: &LiveClient) -> bool {
        let Some(connection) = client.connection() else {
            return false;
        };
        let transport = connection.sctp().transport();
        let selected = transport
            .ice_transport()
            .get_selected_candidate_pair()
            .await;
        let Some(selected) = selected.filter(|pair| self.0.as_ref() != Some(pair)) else {
            return false;
        };
        let pair = view(&selected);
        let (local, remote) = (pair.local.parse().ok(), pair.remote.parse().ok());
        if let Some(local) = local {
            client.capture.set_local(local);
        }
        client.change_seen(|seen| {
            seen.pair = Some(pair);
            seen.remote = remote;
        });
        self.0 = Some(selected);
        true
    }
}

fn view(pair: &RTCIceCandidatePair) -> model::Pair {
    model::Pair {
        local: address(&pair.local),
        local_type: pair.local.typ.to_string(),
        remote: address(&pair.remote),
        remote_type: pair.remote.typ.to_string(),
    }
}

/// The name, where there is no address.
fn address(candidate: &RTCIceCandidate) -> String {
    match candidate.address.parse() {
        Ok(ip) => SocketAddr::new(ip, candidate.port).to_string(),
        Err(_) => format!("{}:{}", candidate.address, candidate.port),
    }
}

#[cfg(test)]
mod tests {
    use webrtc::ice_transport::ice_candidate_type::RTCIceCandidateType;

    use super::*;

    #[test]
    fn addresses_read_as_usual() {
        let candidate = |ip: &str| RTCIceCandidate {
            typ: RTCIceCandidateType::Prflx,
            address: ip.to_owned(),
            port: 5000,
            ..RTCIceCandidate::default()
        };
        let of = |local, remote| {
            view(&RTCIceCandidatePair::new(
                candidate(local),
                candidate(remote),
            ))
        };
        let pair = of("192.0.2.1", "2001:db8::1");
        assert_eq!(pair.local, "192.0.2.1:5000");
        assert_eq!(pair.remote, "[2001:db8::1]:5000");
        assert_eq!(pair.remote_type, "prflx");
        assert_eq!(of("a-b.local", "192.0.2.1").local, "a-b.local:5000");
    }
}
