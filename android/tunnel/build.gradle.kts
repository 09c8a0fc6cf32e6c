plugins {
    alias(libs.plugins.android.library)
    `maven-publish`
}

group = "io.anytls.mobile"
version = "0.1.0"

android {
    namespace = "io.anytls.mobile.android"
    compileSdk = 36
    ndkVersion = libs.versions.ndk.get()

    defaultConfig {
        minSdk = 24
        consumerProguardFiles("consumer-rules.pro")
        // The service's foreground types and its property came with API 34.
        aarMetadata { minCompileSdk = 34 }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
        // The bindings use java.time, which phones have since Android 8.
        isCoreLibraryDesugaringEnabled = true
    }
    sourceSets {
        getByName("main") {
            // The generated bindings are not written for explicit API mode; the Maven build holds the library to it.
            kotlin.directories += "../../bindings/kotlin/src/main/kotlin"
            jniLibs.directories += "build/core"
        }
        // The tests are Maven's: see pom.xml.
        getByName("test") {
            kotlin.directories.clear()
        }
    }
    publishing {
        singleVariant("release") {
            withSourcesJar()
        }
    }
}

dependencies {
    api(libs.coroutines)
    api(variantOf(libs.jna) { artifactType("aar") })
    coreLibraryDesugaring(libs.desugar)
}

val core by tasks.registering(Exec::class) {
    description = "Builds the Rust core for every ABI; cargo knows what is up to date."
    environment("ANDROID_NDK_HOME", androidComponents.sdkComponents.ndkDirectory.get())
    commandLine("../../scripts/build-android", "build/core")
}

tasks.named("preBuild") {
    dependsOn(core)
}

val checkElf by tasks.registering(Exec::class) {
    description = "Checks every library in the AAR, those of dependencies included: pages of 16 KB."
    dependsOn("bundleReleaseAar")
    // A folder for the machine that builds: linux-x86_64 or darwin-x86_64.
    val tools = androidComponents.sdkComponents.ndkDirectory.get().dir("toolchains/llvm/prebuilt").asFile
    environment("READELF", tools.listFiles { it.isDirectory }!!.first().resolve("bin/llvm-readelf"))
    commandLine("../../scripts/check-elf", "build/outputs/aar/tunnel-release.aar")
}

tasks.named("check") {
    dependsOn(checkElf)
}

tasks.withType<AbstractPublishToMaven>().configureEach {
    dependsOn(checkElf)
}

publishing {
    publications {
        register<MavenPublication>("release") {
            artifactId = "anytls-android"
            afterEvaluate {
                from(components["release"])
            }
            pom {
                name = "AnyTLS for Android"
                description = "An AnyTLS VPN for apps: a VpnService with the core behind it"
                licenses {
                    license {
                        name = "MIT OR Apache-2.0"
                    }
                }
            }
        }
    }
}
