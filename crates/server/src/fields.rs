//! The fields of a JSON object that somebody has sent, read one by one, so that what is wrong can be said of each.

use std::{ops::RangeInclusive, str::FromStr};

use serde_json::{Map, Value};

/// What is wrong with a field: its name, its value and what is allowed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {problem}, allowed is {allowed}")]
pub(crate) struct FieldError {
    pub(crate) field: String,
    problem: String,
    // Which can be large.
    pub(crate) value: Box<Value>,
    pub(crate) allowed: String,
}

impl FieldError {
    /// The value of a field cannot be.
    pub(crate) fn new(field: &str, value: Value, allowed: impl Into<String>) -> Self {
        let problem = match &value {
            Value::Number(number) => format!("{number} is out of range"),
            value => format!("{} cannot be", shortened(value)),
        };
        Self {
            field: field.to_owned(),
            problem,
            value: Box::new(value),
            allowed: allowed.into(),
        }
    }

    /// There is no field of that name.
    pub(crate) fn unknown(field: &str, value: Value, known: &[&str]) -> Self {
        let allowed = match known {
            [] => "none".to_owned(),
            known => known.join(", "),
        };
        Self {
            field: shortened(&Value::from(field)).trim_matches('"').to_owned(),
            problem: "is not known".to_owned(),
            value: Box::new(value),
            allowed,
        }
    }

    fn wrong_kind(field: &str, value: &Value, allowed: &str) -> Self {
        Self {
            field: field.to_owned(),
            problem: format!("{} cannot be", shortened(value)),
            value: Box::new(value.clone()),
            allowed: allowed.to_owned(),
        }
    }

    /// Two fields that say the same.
    pub(crate) fn excludes(field: &str, value: Value, other: &str) -> Self {
        Self {
            field: field.to_owned(),
            problem: format!("cannot be given together with {other}"),
            value: Box::new(value),
            allowed: "one of them".to_owned(),
        }
    }
}

/// Somebody else's value, at a length that can be read.
fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// An object whose fields are known.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

/// A field: left out, `null`, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field<T> {
    LeftOut,
    Null,
    Value(T),
}

impl<T> Field<T> {
    /// What there is of a value that need not be there.
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::LeftOut | Self::Null => None,
        }
    }

    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::LeftOut => Field::LeftOut,
            Self::Null => Field::Null,
            Self::Value(value) => Field::Value(map(value)),
        }
    }
}

impl<'a> Fields<'a> {
    /// # Errors
    /// What is no object, and a field that has another name than these.
    pub(crate) fn new(value: &'a Value, known: &[&str]) -> Result<Self, FieldError> {
        let Some(fields) = value.as_object() else {
            return Err(FieldError::wrong_kind("body", value, "a JSON object"));
        };
        match fields
            .iter()
            .find(|(name, _)| !known.contains(&name.as_str()))
        {
            Some((name, value)) => Err(FieldError::unknown(name, value.clone(), known)),
            None => Ok(Self(fields)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Field<&'a Value> {
        match self.0.get(name) {
            None => Field::LeftOut,
            Some(Value::Null) => Field::Null,
            Some(value) => Field::Value(value),
        }
    }

    fn read<T>(
        &self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Field<T>, FieldError> {
        let value = match self.get(name) {
            Field::LeftOut => return Ok(Field::LeftOut),
            Field::Null => return Ok(Field::Null),
            Field::Value(value) => value,
        };
        match read(value) {
            Some(read) => Ok(Field::Value(read)),
            None => Err(FieldError::wrong_kind(name, value, allowed)),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Field<bool>, FieldError> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub(crate) fn text(&self, name: &str, allowed: &str) -> Result<Field<&'a str>, FieldError> {
        self.read(name, allowed, Value::as_str)
    }

    /// A whole number in this range.
    pub(crate) fn number<T>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
    ) -> Result<Field<T>, FieldError>
    where
        T: Copy + PartialOrd + std::fmt::Display + TryFrom<u64>,
    {
        let allowed = format!("{}..={}", range.start(), range.end());
        let Field::Value(value) = self.get(name) else {
            return self.read(name, &allowed, |_| None);
        };
        let number = value
            .as_u64()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number));
        match number {
            Some(number) => Ok(Field::Value(number)),
            None => Err(FieldError::new(name, value.clone(), allowed)),
        }
    }

    /// A name, or a number that stands for it.
    pub(crate) fn named<T: FromStr>(
        &self,
        name: &str,
        allowed: &str,
    ) -> Result<Field<T>, FieldError> {
        self.read(name, allowed, |value| match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_of_the_field() {
        let said = |value: Value| -> String {
            let read = || {
                let fields = Fields::new(&value, &["ttl", "df_bit"])?;
                fields.number::<u8>("ttl", 1..=255)?;
                fields.boolean("df_bit")
            };
            read().expect_err("refused").to_string()
        };
        for (value, expected) in [
            (
                json!({"ttl": 300}),
                "ttl: 300 is out of range, allowed is 1..=255",
            ),
            (
                json!({"ttl": 0}),
                "ttl: 0 is out of range, allowed is 1..=255",
            ),
            (
                json!({"ttl": 1.5}),
                "ttl: 1.5 is out of range, allowed is 1..=255",
            ),
            (
                json!({"ttl": "a"}),
                "ttl: \"a\" cannot be, allowed is 1..=255",
            ),
            (
                json!({"df_bit": 1}),
                "df_bit: 1 cannot be, allowed is true or false",
            ),
            (
                json!({"hops": 3}),
                "hops: is not known, allowed is ttl, df_bit",
            ),
            (json!([1]), "body: [1] cannot be, allowed is a JSON object"),
        ] {
            assert_eq!(said(value), expected);
        }
        let long = said(json!({"ttl": "x".repeat(10_000)}));
        assert!(long.len() < 150, "{long}");
    }

    #[test]
    fn left_out_null_and_a_value_are_three_things() {
        let value = json!({"ttl": null, "df_bit": true});
        let fields = Fields::new(&value, &["ttl", "df_bit"]).expect("known");
        assert_eq!(fields.number::<u8>("ttl", 1..=255), Ok(Field::Null));
        assert_eq!(fields.boolean("df_bit"), Ok(Field::Value(true)));
        assert_eq!(fields.text("dscp", "a name"), Ok(Field::LeftOut));
    }
}
