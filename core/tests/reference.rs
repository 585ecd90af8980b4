//! The committed reference pages and schemas are those that the types make.

use std::path::Path;

use magrathea_core::clusters::clusters_json_schema;
use magrathea_core::manifest::manifest_json_schema;
use magrathea_core::schema::render_reference;

#[test]
fn the_reference_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    for (name, schema) in [("magrathea-yml", manifest_json_schema()), ("clusters-yml", clusters_json_schema())] {
        for (file, text) in [
            (format!("{name}.md"), render_reference(&schema)),
            (format!("{name}.schema.json"), format!("{schema:#}\n")),
        ] {
            let committed = std::fs::read_to_string(folder.join(&file)).unwrap_or_default();
            assert!(committed == text, "docs/reference/{file} is not current: run `make docs`");
        }
    }
}
