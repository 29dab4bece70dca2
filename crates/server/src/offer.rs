use webrtc::{
    peer_connection::sdp::session_description::RTCSessionDescription,
    rtp_transceiver::{
        rtp_codec::RTPCodecType, rtp_transceiver_direction::RTCRtpTransceiverDirection,
    },
};

use crate::CreateError;

/// An SDP offer that there is something to do with.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) description: RTCSessionDescription,
    /// What the peer sends and wants to receive, in the order of its media sections.
    pub(crate) echoed: Vec<RTPCodecType>,
}

impl Offer {
    /// # Errors
    /// [`CreateError::Malformed`] and [`CreateError::NothingOffered`].
    pub(crate) fn parse(sdp: &str) -> Result<Self, CreateError> {
        let description =
            RTCSessionDescription::offer(sdp.to_owned()).map_err(CreateError::Malformed)?;
        let parsed = description.unmarshal().map_err(CreateError::Malformed)?;
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
