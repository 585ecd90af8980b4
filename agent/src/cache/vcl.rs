//! Names and texts of Varnish's configuration. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use magrathea_core::plan::hash_text;

/// Where Varnish sees its folder.
pub const FOLDER: &str = "/etc/magrathea/varnish";

/// The name of an instance's VCL: the same text has the same name.
pub fn vcl_name(slug: &str, text: &str) -> String {
    let hash = hash_text(text);
    format!("v_{slug}_{}", hash.get(..8).unwrap_or_default())
}

/// The label under which an instance's VCL is reached.
pub fn label_name(slug: &str) -> String {
    format!("l_{slug}")
}

/// The main VCL: hands each request to its instance's label. Split by the slug's last two characters, so that a request
/// meets some forty comparisons rather than a thousand.
pub fn render_main(slugs: &[String]) -> String {
    let mut tree: BTreeMap<char, BTreeMap<char, Vec<&str>>> = BTreeMap::new();
    for slug in slugs {
        let mut from_end = slug.chars().rev();
        let (last, before) = (from_end.next().unwrap_or('0'), from_end.next().unwrap_or('0'));
        tree.entry(last).or_default().entry(before).or_default().push(slug);
    }
    let mut text = String::from("vcl 4.1;\n\nbackend default none;\n\nsub vcl_recv {\n");
    for (last, below) in &tree {
        let _ = writeln!(text, "    if (req.http.X-Magrathea-Instance ~ \"{last}$\") {{");
        for (before, slugs) in below {
            let _ = writeln!(text, "        if (req.http.X-Magrathea-Instance ~ \"{before}{last}$\") {{");
            for slug in slugs {
                let label = label_name(slug);
                let _ = writeln!(
                    text,
                    "            if (req.http.X-Magrathea-Instance == \"{slug}\") {{ return (vcl({label})); }}"
                );
            }
            text.push_str("        }\n");
        }
        text.push_str("    }\n");
    }
    text.push_str("    return (synth(503));\n}\n");
    text
}

/// The main VCL's name.
pub fn main_name(text: &str) -> String {
    let hash = hash_text(text);
    format!("main_{}", hash.get(..8).unwrap_or_default())
}

/// The commands that bring a Varnish that just started to the same state.
pub fn render_start(instances: &BTreeMap<String, String>, main: &str) -> String {
    let mut text = String::new();
    for (slug, name) in instances {
        let _ = writeln!(text, "vcl.load {name} {FOLDER}/{name}.vcl");
        let _ = writeln!(text, "vcl.label {} {name}", label_name(slug));
    }
    let _ = writeln!(text, "vcl.load {main} {FOLDER}/{main}.vcl\nvcl.use {main}");
    text
}

/// A VCL or label that Varnish has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub name: String,
    /// Where a label leads.
    pub target: Option<String>,
    pub active: bool,
}

/// Reads `vcl.list`: `STATUS STATE TEMPERATURE BUSY NAME [-> TARGET | <- (n labels)]`.
pub fn parse_list(text: &str) -> Vec<Loaded> {
    let line = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let status = *fields.first()?;
        if !matches!(status, "active" | "available") {
            return None;
        }
        let at = fields
            .iter()
            .position(|field| ["v_", "l_", "main_", "boot"].iter().any(|start| field.starts_with(start)))?;
        let target = match fields.get(at + 1) {
            Some(&"->") => fields.get(at + 2).map(|name| (*name).to_owned()),
            _ => None,
        };
        Some(Loaded { name: (*fields.get(at)?).to_owned(), target, active: status == "active" })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_vcl_dispatches_in_two_steps() {
        let slugs = ["i00000000000a", "i0000000000fa", "i0000000000fb", "i1000000000fa"].map(str::to_owned);
        insta::assert_snapshot!(render_main(&slugs));
    }

    #[test]
    fn a_start_file_loads_everything() {
        let instances = BTreeMap::from([("i0".to_owned(), "v_i0_11111111".to_owned())]);
        insta::assert_snapshot!(render_start(&instances, "main_22222222"));
    }

    #[test]
    fn the_list_is_read() {
        let text = "available   auto    warm         0    v_i0_c5ae69fb    <-    (1 label)\n\
                    available  label    warm         0    l_i0    ->    v_i0_c5ae69fb    (1 return(vcl))\n\
                    active      auto    warm         0    main_0c2a4aa8\n";
        let loaded = parse_list(text);
        assert_eq!(
            loaded.iter().map(|l| (l.name.as_str(), l.target.as_deref(), l.active)).collect::<Vec<_>>(),
            [("v_i0_c5ae69fb", None, false), ("l_i0", Some("v_i0_c5ae69fb"), false), ("main_0c2a4aa8", None, true),]
        );
    }
}
