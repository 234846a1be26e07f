//! Durations as people write them: `500ms`, `3s`, `2m`, `12h`, `90d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 500ms, 3s or 2m");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u32 = text[..split].parse().map_err(|_| wrong())?;
    match &text[split..] {
        "ms" => Ok(Duration::from_millis(number.into())),
        "s" => Ok(Duration::from_secs(number.into())),
        "m" => Ok(Duration::from_secs(u64::from(number) * 60)),
        "h" => Ok(Duration::from_secs(u64::from(number) * 3600)),
        "d" => Ok(Duration::from_secs(u64::from(number) * 86_400)),
        _ => Err(wrong()),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}
