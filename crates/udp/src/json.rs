#![expect(
    clippy::option_option,
    reason = "left out, null and a value are three cases"
)]
//! The JSON form of [`MessageOptions`](crate::MessageOptions) and its update.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Dscp, Ecn, MessageOptions, OptionsError, Tos};

/// As it is written: numbers wide enough to name the one that is out of range.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    df_bit: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tos: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dscp: Option<Dscp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ecn: Option<Ecn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_label: Option<i64>,
}

fn narrow<T: TryFrom<i64>>(
    field: &'static str,
    value: Option<i64>,
    range: &'static str,
) -> Result<Option<T>, OptionsError> {
    value
        .map(|value| {
            T::try_from(value).map_err(|_| OptionsError::OutOfRange {
                field,
                value,
                range,
            })
        })
        .transpose()
}

impl TryFrom<Options> for MessageOptions {
    type Error = OptionsError;

    fn try_from(json: Options) -> Result<Self, OptionsError> {
        let options = Self {
            ttl: narrow("ttl", json.ttl, "1..=255")?,
            df_bit: json.df_bit,
            tos: narrow("tos", json.tos, "0..=255")?,
            dscp: json.dscp,
            ecn: json.ecn,
            source: json.source,
            flow_label: narrow("flow_label", json.flow_label, "0..=1048575")?,
        };
        options.validate()?;
        Ok(options)
    }
}

impl From<MessageOptions> for Options {
    fn from(options: MessageOptions) -> Self {
        Self {
            ttl: options.ttl.map(i64::from),
            df_bit: options.df_bit,
            tos: options.tos.map(i64::from),
            dscp: options.dscp,
            ecn: options.ecn,
            source: options.source,
            flow_label: options.flow_label.map(i64::from),
        }
    }
}

/// A change to [`MessageOptions`]: a field that is left out stays as it is, `null` clears it, a
/// value sets it. Unknown fields are refused.
///
/// ```
/// use perpacket_udp::{MessageOptions, MessageOptionsUpdate};
/// let update: MessageOptionsUpdate = serde_json::from_str(r#"{"ttl": 10, "tos": null}"#)?;
/// let before = MessageOptions::default().with_tos(184).with_df_bit(true);
/// let after = update.apply(before)?;
/// assert_eq!(after, MessageOptions::default().with_ttl(10).with_df_bit(true));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MessageOptionsUpdate {
    #[serde(deserialize_with = "present")]
    ttl: Option<Option<i64>>,
    #[serde(deserialize_with = "present")]
    df_bit: Option<Option<bool>>,
    #[serde(deserialize_with = "present")]
    tos: Option<Option<i64>>,
    #[serde(deserialize_with = "present")]
    dscp: Option<Option<Dscp>>,
    #[serde(deserialize_with = "present")]
    ecn: Option<Option<Ecn>>,
    #[serde(deserialize_with = "present")]
    source: Option<Option<IpAddr>>,
    #[serde(deserialize_with = "present")]
    flow_label: Option<Option<i64>>,
}

/// Tells `null` from a field that is left out.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    input: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(input).map(Some)
}

impl MessageOptionsUpdate {
    /// What `before` becomes. A new `tos` takes the place of a `dscp` and an `ecn` that were set
    /// before it.
    ///
    /// # Errors
    /// The field that is out of range, with its value and the range; `before` then stands.
    pub fn apply(&self, before: MessageOptions) -> Result<MessageOptions, OptionsError> {
        let mut json = Options::from(before);
        if let Some(Some(_)) = self.tos {
            (json.dscp, json.ecn) = (None, None);
        }
        json.ttl = self.ttl.unwrap_or(json.ttl);
        json.df_bit = self.df_bit.unwrap_or(json.df_bit);
        json.tos = self.tos.unwrap_or(json.tos);
        json.dscp = self.dscp.unwrap_or(json.dscp);
        json.ecn = self.ecn.unwrap_or(json.ecn);
        json.source = self.source.unwrap_or(json.source);
        json.flow_label = self.flow_label.unwrap_or(json.flow_label);
        json.try_into()
    }
}

/// A name or a number, as people write code points.
#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Number(i64),
    Name(String),
}

impl NameOrNumber {
    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Name(name) => name,
        }
    }
}

macro_rules! by_name {
    ($type:ty) => {
        /// Its name, or its number where it has none.
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                output.collect_str(self)
            }
        }

        /// Its name or its number.
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                NameOrNumber::deserialize(input)?
                    .text()
                    .parse()
                    .map_err(de::Error::custom)
            }
        }
    };
}

by_name!(Dscp);
by_name!(Ecn);

/// The byte as a number.
impl Serialize for Tos {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_u8(self.byte())
    }
}

/// The byte as a number.
impl<'de> Deserialize<'de> for Tos {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        u8::deserialize(input).map(Self::from_byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_and_write_the_three_fields() {
        let options: MessageOptions =
            serde_json::from_str(r#"{"ttl": 10, "df_bit": true, "tos": 184}"#).expect("valid");
        assert_eq!(
            options,
            MessageOptions::NONE
                .with_ttl(10)
                .with_df_bit(true)
                .with_tos(184)
        );
        let text = serde_json::to_string(&options).expect("JSON");
        assert_eq!(text, r#"{"ttl":10,"df_bit":true,"tos":184}"#);
        let named: MessageOptions =
            serde_json::from_str(r#"{"dscp": "AF41", "ecn": 1}"#).expect("valid");
        assert_eq!(named.tos_byte(), Some(34 << 2 | 1));
    }

    #[test]
    fn bad_input_is_named() {
        for (text, complaint) in [
            (r#"{"ttl": 0}"#, "ttl: 0 is out of range"),
            (r#"{"ttl": 256}"#, "ttl: 256 is out of range"),
            (r#"{"tos": -1}"#, "tos: -1 is out of range"),
            (r#"{"dscp": 64}"#, "dscp: 64 is out of range"),
            (r#"{"dscp": "AF99"}"#, "AF99"),
            (r#"{"hops": 3}"#, "unknown field `hops`"),
        ] {
            let error = serde_json::from_str::<MessageOptions>(text)
                .expect_err(text)
                .to_string();
            assert!(error.contains(complaint), "{text}: {error}");
            let update = serde_json::from_str::<MessageOptionsUpdate>(text)
                .map_err(|error| error.to_string());
            let error = update.and_then(|u| {
                u.apply(MessageOptions::NONE)
                    .map_err(|error| error.to_string())
            });
            assert!(error.expect_err(text).contains(complaint), "{text}");
        }
    }

    #[test]
    fn an_update_leaves_clears_and_sets() {
        let before = MessageOptions::NONE
            .with_ttl(5)
            .with_dscp(Dscp::EF)
            .with_df_bit(false);
        let apply = |text: &str| {
            let update: MessageOptionsUpdate = serde_json::from_str(text).expect("valid");
            update.apply(before).expect("in range")
        };
        assert_eq!(apply("{}"), before);
        assert_eq!(
            apply(r#"{"ttl": null, "dscp": null, "df_bit": null}"#),
            MessageOptions::NONE
        );
        assert_eq!(
            apply(r#"{"tos": 8}"#).tos_byte(),
            Some(8),
            "a new TOS byte replaces the DSCP"
        );
        assert_eq!(apply(r#"{"ecn": "ect0"}"#).tos_byte(), Some(186));
    }
}
