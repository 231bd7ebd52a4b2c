"""Java, the jars, the Spark session and the class archive of its JVM, and the memory of a process."""
