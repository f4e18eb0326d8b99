pub fn checks() -> Vec<lab::Check> {
    Vec::new()
}
