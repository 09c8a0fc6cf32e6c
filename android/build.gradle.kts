// The versions of the plugins, once for all modules. Kotlin comes with the Android plugin, in a version of our choice.
buildscript {
    dependencies {
        classpath(libs.kotlin.gradle.plugin)
    }
}

plugins {
    alias(libs.plugins.android.application) apply false
    alias(libs.plugins.android.library) apply false
}
