plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "io.anytls.mobile.sample"
    compileSdk = 36

    defaultConfig {
        applicationId = "io.anytls.mobile.sample"
        minSdk = 24
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
    }
    buildTypes {
        getByName("release") {
            // The library's rules keep what JNA and the bindings look up by name.
            isMinifyEnabled = true
            isShrinkResources = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
        // java.time before Android 8: every app with the library needs this.
        isCoreLibraryDesugaringEnabled = true
    }
    sourceSets {
        // The tests are Maven's: see pom.xml.
        getByName("test") {
            kotlin.directories.clear()
        }
    }
}

dependencies {
    implementation(project(":tunnel"))
    implementation(libs.coroutines.android)
    coreLibraryDesugaring(libs.desugar)
}
