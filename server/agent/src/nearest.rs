//! The word that was probably meant.

/// The known word nearest to `word`, if one is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let distance_max = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|&(distance, _)| distance <= distance_max)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?` for the nearest word, in the form that `show` gives it, or nothing.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, show: impl Fn(&str) -> String) -> String {
    nearest(word, known).map(|candidate| format!("; did you mean `{}`?", show(candidate))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["data_dir", "datacenter", "node_name", "ports"];
        assert_eq!(nearest("data-dir", known), Some("data_dir"));
        assert_eq!(nearest("datacentre", known), Some("datacenter"));
        assert_eq!(nearest("prots", known), Some("ports"));
        assert_eq!(nearest("Node_Nam", known), Some("node_name"));
        assert_eq!(nearest("quux", known), None);
        assert_eq!(nearest("", known), None);
    }
}
