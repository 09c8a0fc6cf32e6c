package androidx.test.internal.platform.util

/** Stand-in: Robolectric asks for the stacks of all threads when the main thread does not come to rest. */
object TestOutputEmitter {
    @JvmStatic
    fun dumpThreadStates(file: String) {
        System.err.println("$file:")
        for ((thread, stack) in Thread.getAllStackTraces()) {
            System.err.println("$thread\n${stack.joinToString("\n") { "    at $it" }}")
        }
    }
}
