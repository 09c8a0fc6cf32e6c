//! JSON as people paste it: with comments and trailing commas, as sing-box takes it.

use serde_json::Value;

/// Reads one JSON value.
///
/// # Errors
/// What the syntax lacks, with line and column of the text as given; never a part of the text.
/// Nesting is bounded by serde_json (128 levels).
pub(super) fn parse(text: &str) -> Result<Value, String> {
    // serde_json's syntax errors are fixed sentences: they quote nothing.
    serde_json::from_slice(&blank_out_extras(text.as_bytes())).map_err(|error| format!("not JSON: {error}"))
}

/// Puts spaces in the place of comments and trailing commas, so that every other byte keeps its line and
/// column.
fn blank_out_extras(text: &[u8]) -> Vec<u8> {
    let mut json = text.to_vec();
    // The last comma, while nothing but space and comments has followed it.
    let mut comma = None;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        if let Some(end) = end_of_comment(&json, at) {
            json[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
            at = end;
            continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b',' => comma = Some(at),
            b']' | b'}' => {
                if let Some(comma) = comma.take() {
                    json[comma] = b' ';
                }
            }
            _ => comma = None,
        }
        at = if byte == b'"' { end_of_string(&json, at) } else { at + 1 };
    }
    json
}

/// The index after the comment that begins at `start`, when one does.
fn end_of_comment(json: &[u8], start: usize) -> Option<usize> {
    let rest = &json[start..];
    let (body, closing): (_, &[u8]) = match rest {
        [b'#', ..] => (1, b"\n"),
        [b'/', b'/', ..] => (2, b"\n"),
        [b'/', b'*', ..] => (2, b"*/"),
        _ => return None,
    };
    let length = rest[body..].windows(closing.len()).position(|window| window == closing);
    Some(length.map_or(json.len(), |length| start + body + length + closing.len()))
}

/// The index after the string that begins at `start`.
fn end_of_string(json: &[u8], start: usize) -> usize {
    let mut escaped = false;
    let closing = json[start + 1..].iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    closing.map_or(json.len(), |length| start + length + 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_taken() {
        let text = r#"
            // a line # of comment
            { # another
              "a": [1, /* , ] */ 2, // last,
              ], /**/
              "b, // no comment": "x/*y*/ # \" , ]",
            } /* open"#;
        assert_eq!(parse(text), Ok(json!({ "a": [1, 2], "b, // no comment": "x/*y*/ # \" , ]" })));
    }

    #[test]
    fn a_string_ends_at_its_own_quote() {
        assert_eq!(parse(r#"["\\", /*"*/ "\"//\\", 1]"#), Ok(json!(["\\", "\"//\\", 1])));
    }

    #[test]
    fn only_one_trailing_comma_is_taken() {
        for text in ["[,]", "[1,,]", "{,}", "[1,,2]", "{\"a\":1/}", "[1]/", "\"open", "/*", "[1}"] {
            let parsed = parse(text);
            assert!(parsed.is_err() || text == "[,]" || text == "{,}", "{text}: {parsed:?}");
        }
    }

    #[test]
    fn syntax_errors_name_line_and_column_of_the_text_as_given() {
        let error = parse("{ // comment\n  \"password\": hunter2\n}").unwrap_err();
        assert_eq!(error, "not JSON: expected value at line 2 column 15");
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(parse(&"[".repeat(100_000)).unwrap_err().contains("recursion limit"));
    }
}
