//! A rendered screen without what a browser does not need.
//!
//! Contract: the document that a browser makes of it is the same but for space between elements. In text and
//! attributes `<` and `"` are escaped, so a tag that is found is one, and so is an attribute.
#![forbid(unsafe_code)]

/// Ends that follow from what comes next: the next cell, row or item, or the end of all of them
/// (HTML, 13.1.2.4). They are a twentieth of a table.
const IMPLIED: [&str; 4] = ["</td>", "</th>", "</tr>", "</li>"];

/// Attributes of nearly every cell, with quotation marks and without.
const QUOTED: [(&str, &str); 4] = [
    (" scope=\"col\"", " scope=col"),
    (" scope=\"row\"", " scope=row"),
    (" class=\"text\"", " class=text"),
    (" class=\"how\"", " class=how"),
];

/// Without these ends, the space after them, empty lines, and those quotation marks.
pub(super) fn lean(page: &str) -> String {
    let mut lean = String::with_capacity(page.len());
    let mut rest = page;
    while let Some(at) = rest.find(['<', '\n']) {
        lean.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(end) = IMPLIED.iter().find(|end| rest.starts_with(**end)) {
            rest = rest[end.len()..].trim_start();
        } else if rest.starts_with('\n') {
            lean.push('\n');
            rest = rest.trim_start();
        } else {
            lean.push('<');
            rest = &rest[1..];
        }
    }
    lean.push_str(rest);
    QUOTED
        .iter()
        .fold(lean, |page, (quoted, bare)| page.replace(quoted, bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_follow_from_what_comes_next_are_left_out_and_text_stays() {
        let page = "<table>\n<tr><th scope=\"row\" class=\"text\">a</th> <td>1 < 2</td>\n\n<td><b>x</b> y</td></tr>\n</table>\n\n\
                    <ul>\n  <li>&lt;/td&gt; <q>one</q></li>\n</ul>\n<p>two\nlines</p>\n";
        assert_eq!(
            lean(page),
            "<table>\n<tr><th scope=row class=text>a<td>1 < 2<td><b>x</b> y</table>\n<ul>\n<li>&lt;/td&gt; <q>one</q></ul>\n\
             <p>two\nlines</p>\n"
        );
    }
}
