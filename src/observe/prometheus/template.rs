//! The placeholders of a query: `$service`, `$datacenter` and `$namespace` stand in the values of label matchers.
//!
//! Never a way to change the query: a value is escaped for the string that it stands in, and for the regular expression where
//! the string is one. In a string that something else is made of, such as the pattern of `label_replace`, nobody knows what a
//! `.` means, so none may stand there.

/// What the placeholders stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) service: &'a str,
    pub(super) datacenter: &'a str,
    pub(super) namespace: &'a str,
}

/// What a string of the query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// The value of a label.
    Value,
    /// A regular expression for the value of a label.
    Expression,
    /// Anything else.
    Other,
}

impl Of {
    /// By what stands before it.
    fn after(text: &str) -> Self {
        if text.ends_with("=~") || text.ends_with("!~") {
            Self::Expression
        } else if text.ends_with('=') && !text.ends_with("==") {
            Self::Value
        } else {
            Self::Other
        }
    }
}

/// Puts the values in.
///
/// # Errors
/// A placeholder outside of a label matcher's quotes, an unknown one, a string without an end, or a value that its string cannot hold.
pub(super) fn fill(query: &str, values: Values<'_>) -> Result<String, String> {
    let mut filled = String::with_capacity(query.len());
    let mut quote: Option<char> = None;
    let mut string = Of::Other;
    let mut rest = query;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match (quote, c) {
            (_, '$') if after.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                let name = &after[..end];
                let value = match name {
                    "service" => values.service,
                    "datacenter" => values.datacenter,
                    "namespace" => values.namespace,
                    _ => return Err(format!("${name} is none of $service, $datacenter and $namespace")),
                };
                let Some(quote) = quote else { return Err(format!("${name} must stand inside of quotes")) };
                if string == Of::Other {
                    return Err(format!(
                        "${name} must stand in the value of a label matcher, such as label=\"${name}\""
                    ));
                }
                filled.push_str(&escaped(value, quote, string == Of::Expression)?);
                rest = &after[end..];
                continue;
            }
            (Some('"' | '\''), '\\') => {
                filled.push(c);
                let Some(next) = after.chars().next() else { break };
                filled.push(next);
                rest = &after[next.len_utf8()..];
                continue;
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'' | '`') => {
                quote = Some(c);
                string = Of::after(filled.trim_end());
            }
            // A comment may hold anything.
            (None, '#') => {
                let end = after.find('\n').unwrap_or(after.len());
                rest = &after[end..];
                continue;
            }
            _ => {}
        }
        filled.push(c);
        rest = after;
    }
    if quote.is_some() { Err("a string of the query has no end".to_owned()) } else { Ok(filled) }
}

fn escaped(value: &str, quote: char, expression: bool) -> Result<String, String> {
    let mut literal = String::new();
    for c in value.chars() {
        if c.is_control() {
            return Err(format!("{value:?} cannot stand in a query"));
        }
        if expression && !c.is_alphanumeric() && !matches!(c, '-' | '_' | '/' | ':') {
            literal.push('\\');
        }
        literal.push(c);
    }
    if quote == '`' {
        let fits = !literal.contains('`');
        return if fits { Ok(literal) } else { Err(format!("{value:?} cannot stand in a string of backquotes")) };
    }
    Ok(literal.replace('\\', "\\\\").replace(quote, &format!("\\{quote}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(query: &str, service: &str) -> Result<String, String> {
        fill(query, Values { service, datacenter: "eqiad", namespace: "space" })
    }

    #[test]
    fn placeholders_become_label_values() {
        assert_eq!(
            with(r#"sum(rate(x{service="$service",site='$datacenter',ns=`$namespace`}[5m]))"#, "pilot").as_deref(),
            Ok(r#"sum(rate(x{service="pilot",site='eqiad',ns=`space`}[5m]))"#)
        );
        assert_eq!(with(r#"x{a="$service.y$"}"#, "pilot").as_deref(), Ok(r#"x{a="pilot.y$"}"#));
        assert_eq!(with("x # of $everything\n", "pilot").as_deref(), Ok("x \n"));
    }

    #[test]
    fn a_name_cannot_change_the_query() {
        assert_eq!(with(r#"x{a="$service"}"#, r#"a"} or vector(0) #"#).as_deref(), Ok(r#"x{a="a\"} or vector(0) #"}"#));
        assert_eq!(with(r#"x{a="$service"}"#, r"a\").as_deref(), Ok(r#"x{a="a\\"}"#));
        assert_eq!(with("x{a='$service'}", "a'b\"").as_deref(), Ok("x{a='a\\'b\"'}"));
        assert_eq!(with(r#"x{a=~"$service-.*"}"#, "a.b").as_deref(), Ok(r#"x{a=~"a\\.b-.*"}"#));
        assert_eq!(with("x{a!~`$service`}", "a.b").as_deref(), Ok(r"x{a!~`a\.b`}"));
        assert!(with("x{a=`$service`}", "a`b").is_err());
        assert!(with(r#"x{a="$service"}"#, "a\nb").is_err());
    }

    #[test]
    fn what_cannot_be_filled_is_told() {
        for other in [
            r#"label_replace(x, "a", "$service", "b", "(.*)")"#,
            r#"label_replace(x{a="b"}, "a", "$1", "b", "$service-.*")"#,
            r#"x == "$service""#,
        ] {
            assert!(with(other, "a.b").is_err_and(|why| why.contains("label matcher")), "{other}");
        }
        assert!(
            with(
                r#"x{a = # or not "here"
            "$service"}"#,
                "a"
            )
            .is_ok()
        );
        assert_eq!(with("$service", "a"), Err("$service must stand inside of quotes".to_owned()));
        assert_eq!(
            with(r#"x{a="$services"}"#, "a"),
            Err("$services is none of $service, $datacenter and $namespace".to_owned())
        );
        assert_eq!(with(r#"x{a="b}"#, "a"), Err("a string of the query has no end".to_owned()));
    }

    proptest! {
        /// Whatever the name, what stands around it is as it was, and the string ends where it ended.
        #[test]
        fn the_string_ends_where_it_ended(value in "[ -~]{0,12}", quote in prop::sample::select(vec!['"', '\''])) {
            let filled = fill(
                &format!("x{{a={quote}$service{quote}}}"),
                Values { service: &value, datacenter: "", namespace: "" },
            ).expect("printable text fits");
            let body = filled.strip_prefix(&format!("x{{a={quote}")).and_then(|rest| rest.strip_suffix(&format!("{quote}}}")));
            let (mut plain, mut characters) = (String::new(), body.expect("what stands around it").chars());
            while let Some(c) = characters.next() {
                prop_assert_ne!(c, quote);
                plain.push(if c == '\\' { characters.next().expect("an escape of something") } else { c });
            }
            prop_assert_eq!(plain, value);
        }
    }
}
