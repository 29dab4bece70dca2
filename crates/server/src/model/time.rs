use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type},
};

/// A moment, in milliseconds since 1970: `2026-11-22T08:00:00.123Z`. By default, the beginning of 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The end of the year 9999, which is the last that RFC 3339 can say.
const LAST: i64 = 253_402_300_799_999;
/// The beginning of the year 0.
const FIRST: i64 = -62_167_219_200_000;

impl Timestamp {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// That many milliseconds after 1970; what has no date is the nearest moment that has.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(if millis < FIRST {
            FIRST
        } else if millis > LAST {
            LAST
        } else {
            millis
        })
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(error) => {
                i64::try_from(error.duration().as_millis()).map_or(i64::MIN, i64::wrapping_neg)
            }
        };
        Self::from_millis(millis)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.0) * 1_000_000;
        let date = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| fmt::Error)?;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
            date.millisecond()
        )
    }
}

/// The text is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected is a time as RFC 3339 has it, 2026-11-22T08:00:00Z")]
pub struct NotATime;

impl FromStr for Timestamp {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let date = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATime)?;
        let nanos = date.to_offset(UtcOffset::UTC).unix_timestamp_nanos();
        let millis = i64::try_from(nanos.div_euclid(1_000_000)).map_err(|_| NotATime)?;
        Ok(Self::from_millis(millis))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        output.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(input)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Timestamp {
    fn name() -> Cow<'static, str> {
        "Timestamp".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_and_reads_as_rfc_3339() {
        let moment = Timestamp::from_millis(1_795_334_400_123);
        assert_eq!(moment.to_string(), "2026-11-22T08:00:00.123Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("2026-11-22T10:00:00.1239+02:00".parse(), Ok(moment));
        assert_eq!(
            Timestamp::from_millis(-1).to_string(),
            "1969-12-31T23:59:59.999Z"
        );
        for text in ["", "2026-11-22", "2026-13-01T00:00:00Z", "yesterday"] {
            assert_eq!(text.parse::<Timestamp>(), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn every_moment_has_a_date() {
        for millis in [i64::MIN, i64::MAX, 0, FIRST, LAST] {
            let moment = Timestamp::from_millis(millis);
            assert_eq!(moment.to_string().parse(), Ok(moment));
        }
        assert_eq!(Timestamp::from_millis(LAST).after(Duration::MAX).0, LAST);
        assert!(SystemTime::now() >= SystemTime::UNIX_EPOCH);
    }
}
