package io.anytls.mobile.testing

import java.io.File
import java.util.concurrent.TimeUnit

/** An AnyTLS server: the project's own program as a child process, from where cargo put it. */
class TestServer : AutoCloseable {
    private val process: Process

    /** `127.0.0.1` and its port. */
    private val address: String

    init {
        val program = File(System.getProperty("jna.library.path")!!, "anytls-mobile")
        check(program.canExecute()) { "cargo build has to come first: there is no $program" }
        process = ProcessBuilder(program.path, "serve", "--listen", "127.0.0.1:0", "--password", PASSWORD)
            .redirectErrorStream(true)
            .start()
        val lines = process.inputStream.bufferedReader()
        address = generateSequence(lines::readLine).firstNotNullOf { LISTENING.find(it)?.value }
        // Its log must not fill the pipe.
        Thread({ lines.forEachLine { } }, "test-server").apply { isDaemon = true }.start()
    }

    val uri: String get() = uri("127.0.0.1")

    /** A config for it by another name. Its certificate is made for the run, so nobody could trust it. */
    fun uri(host: String): String = "anytls://$PASSWORD@$host:${address.substringAfter(':')}/?insecure=1"

    override fun close() {
        process.destroy()
        if (!process.waitFor(PATIENCE_NS, TimeUnit.NANOSECONDS)) process.destroyForcibly()
    }

    private companion object {
        const val PASSWORD = "a-password-for-tests"
        val LISTENING = Regex("127\\.0\\.0\\.1:[0-9]+")
    }
}
