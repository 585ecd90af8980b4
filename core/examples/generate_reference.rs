//! Writes the reference pages and JSON Schemas of the configuration files to `docs/reference`; run by `make docs`.

use std::path::Path;

use magrathea_core::billing::rates_json_schema;
use magrathea_core::clusters::clusters_json_schema;
use magrathea_core::manifest::manifest_json_schema;
use magrathea_core::schema::render_reference;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    std::fs::create_dir_all(&folder)?;
    let files = [
        ("magrathea-yml", manifest_json_schema()),
        ("clusters-yml", clusters_json_schema()),
        ("rates-yml", rates_json_schema()),
    ];
    for (name, schema) in files {
        std::fs::write(folder.join(format!("{name}.md")), render_reference(&schema))?;
        std::fs::write(folder.join(format!("{name}.schema.json")), format!("{schema:#}\n"))?;
    }
    Ok(())
}
