//! Aligned tables without borders, the same on a terminal and in a pipe.

use comfy_table::ContentArrangement;
use comfy_table::presets::NOTHING;

use crate::printer::{Printer, clean};

/// Prints rows below a header; the quiet get the rows alone.
pub fn print<const N: usize>(printer: &Printer, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = comfy_table::Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !printer.is_quiet() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell).replace('\n', " ")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    for line in table.lines() {
        printer.data(line.trim_end());
    }
}

/// A cell for something that may not be there.
pub fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}
