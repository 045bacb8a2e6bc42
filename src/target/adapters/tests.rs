//! Adapters over small models.
use super::*;

#[test]
fn wishes_as_they_are_typed() {
    fn check(text: &str, path: &str, strength: f32) {
        assert_eq!(Wish::parse(text).expect(text), Wish { path: path.into(), strength });
    }
    check("a.safetensors", "a.safetensors", 1.0);
    check("a.safetensors:0.8", "a.safetensors", 0.8);
    check("a.safetensors:-1", "a.safetensors", -1.0);
    check(r"C:\loras\a.safetensors", r"C:\loras\a.safetensors", 1.0);
    check("odd:name", "odd:name", 1.0);
    assert!(Wish::parse("a:nan").is_err());
}
