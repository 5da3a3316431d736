package org.apache.beam.sdk.util.construction.resources;

import io.github.classgraph.ClassGraph;
import java.util.Collections;
import java.util.List;

/**
 * Takes the place of Beam's class of this name in the thin jar: a job sends no jar to the cluster.
 *
 * <p>Beam's finds every jar on the job server's class path, and each job uploads them all to Flink, which hands them to
 * each TaskManager: 344 MB and 10 to 20 seconds a job. The thin jar is for clusters that have those jars on their own
 * class path, so that there is nothing to send.
 */
public class ClasspathScanningResourcesDetector implements PipelineResourcesDetector {

  public ClasspathScanningResourcesDetector(ClassGraph unused) {}

  @Override
  public List<String> detect(ClassLoader classLoader) {
    return Collections.emptyList();
  }
}
