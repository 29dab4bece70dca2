use webrtc::{
    peer_connection::sdp::session_description::RTCSessionDescription,
    rtp_transceiver::{
        rtp_codec::RTPCodecType, rtp_transceiver_direction::RTCRtpTransceiverDirection,
    },
};

use crate::CreateError;

/// The most media sections: each makes a transceiver.
const MEDIA_SECTIONS: usize = 64;

/// The most candidates: each is sent checks, whosever address it is (RFC 8445 §19.5.1), and that
/// many pairs are what an agent checks at most (RFC 8445 §6.1.2.5).
const CANDIDATES: usize = 100;

/// The most payload types of a media section: there are no more (RFC 3550 §5.1). webrtc-rs reads all attributes of the
/// section again for each.
const PAYLOAD_TYPES: usize = 128;

/// The most attributes of a media section. Browsers write some 300.
const ATTRIBUTES: usize = 1_000;

/// An SDP offer that there is something to do with.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) description: RTCSessionDescription,
    /// What the peer sends and wants to receive, in the order of its media sections.
    pub(crate) echoed: Vec<RTPCodecType>,
}

impl Offer {
    /// # Errors
    /// [`CreateError::Malformed`], [`CreateError::TooMany`] and [`CreateError::NothingOffered`].
    pub(crate) fn parse(sdp: &str) -> Result<Self, CreateError> {
        let description =
            RTCSessionDescription::offer(sdp.to_owned()).map_err(CreateError::Malformed)?;
        let parsed = description.unmarshal().map_err(CreateError::Malformed)?;
        let sections = parsed.media_descriptions.len();
        let attributes = parsed
            .media_descriptions
            .iter()
            .flat_map(|section| &section.attributes);
        let candidates = attributes
            .filter(|attribute| attribute.is_ice_candidate())
            .count();
        let described = parsed.media_descriptions.iter();
        let payload_types = described.clone().map(|it| it.media_name.formats.len());
        let of_one = described.map(|it| it.attributes.len());
        for (what, count, limit) in [
            ("media sections", sections, MEDIA_SECTIONS),
            ("candidates", candidates, CANDIDATES),
            (
                "payload types in a media section",
                payload_types.max().unwrap_or_default(),
                PAYLOAD_TYPES,
            ),
            (
                "attributes in a media section",
                of_one.max().unwrap_or_default(),
                ATTRIBUTES,
            ),
        ] {
            if count > limit {
                return Err(CreateError::TooMany { what, count, limit });
            }
        }
        let mut useful = false;
        let mut echoed = Vec::new();
        for section in &parsed.media_descriptions {
            let kind = match section.media_name.media.as_str() {
                "audio" => RTPCodecType::Audio,
                "video" => RTPCodecType::Video,
                "application" => {
                    useful = true;
                    continue;
                }
                _ => continue,
            };
            let direction = section
                .attributes
                .iter()
                .map(|attribute| RTCRtpTransceiverDirection::from(attribute.key.as_str()))
                .find(|direction| *direction != RTCRtpTransceiverDirection::Unspecified);
            match direction {
                Some(RTCRtpTransceiverDirection::Sendrecv) => echoed.push(kind),
                Some(RTCRtpTransceiverDirection::Sendonly) => {}
                _ => continue,
            }
            useful = true;
        }
        if !useful {
            return Err(CreateError::NothingOffered);
        }
        Ok(Self {
            description,
            echoed,
        })
    }
}
