# shellcheck shell=bash
# Sourced after setup.sh by the verbs that test on a JVM.

need_jvm() { need_apt javac=openjdk-17-jdk-headless mvn=maven; }

# check_jni : passes on what a JVM prints under -Xcheck:jni, and fails when that is about JNI. JNA's own habits are left
# out: it does not look for exceptions after calls that throw none, and outgrows its first 32 references while it loads.
check_jni() {
  awk '
    /JNI call made without checking exceptions|JNI local refs: [0-9]+, exceeds capacity/ { leave_out = 1; next }
    leave_out && /^\t(at|- )/ { next }
    { leave_out = 0; print }
    /(WARNING|FATAL ERROR) in native method|^WARNING: JNI / { bad = 1 }
    END { exit bad }'
}
