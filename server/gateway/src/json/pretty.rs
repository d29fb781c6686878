//! Indentation of JSON that is compact, piece by piece.

/// Indents what it is fed by four blanks a level. Text may be cut anywhere between two pieces.
#[derive(Default)]
pub(crate) struct Indenter {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// A list or object was opened and nothing has been written in it yet.
    opened: bool,
}

impl Indenter {
    /// The whole of `json`, indented, with a newline at the end.
    pub(crate) fn whole(json: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(json.len() * 2);
        Indenter::default().feed(json, &mut out);
        out.push(b'\n');
        out
    }

    /// Appends `json`, indented, to `out`.
    pub(crate) fn feed(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for &byte in json {
            if self.in_text {
                out.push(byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            let closes = matches!(byte, b'}' | b']');
            if std::mem::take(&mut self.opened) && !closes {
                self.depth += 1;
                self.line(out);
            } else if closes && !matches!(out.last(), Some(b'{' | b'[')) {
                self.depth = self.depth.saturating_sub(1);
                self.line(out);
            }
            out.push(byte);
            match byte {
                b'"' => self.in_text = true,
                b'{' | b'[' => self.opened = true,
                b',' => self.line(out),
                b':' => out.push(b' '),
                _ => {}
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 4 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_are_indented_and_empty_ones_are_not() {
        let compact = br#"[{"a":[],"b":{},"c":"x,{\"]","d":[1,true]}]"#;
        let expected = "[\n    {\n        \"a\": [],\n        \"b\": {},\n        \"c\": \"x,{\\\"]\",\n        \"d\": [\n            1,\n            true\n        ]\n    }\n]\n";
        assert_eq!(String::from_utf8(Indenter::whole(compact)).unwrap(), expected);
    }

    #[test]
    fn it_does_not_matter_where_the_text_is_cut() {
        let compact = br#"[{"a":[{}],"b":"\"x"},[[],1]]"#;
        let whole = Indenter::whole(compact);
        for size in 1..compact.len() {
            let mut indenter = Indenter::default();
            let mut out = Vec::new();
            for piece in compact.chunks(size) {
                indenter.feed(piece, &mut out);
            }
            out.push(b'\n');
            assert_eq!(out, whole, "pieces of {size}");
        }
    }
}
