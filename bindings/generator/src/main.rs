//! Writes Kotlin and Swift out of what UniFFI finds in a built library: see scripts/bindings.

fn main() {
    uniffi::uniffi_bindgen_main();
}
