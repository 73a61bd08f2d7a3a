// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	configMapName = "waymark-config"
	configKey     = "waymark.yaml"
)

// setInManifest sets fields, by dotted path, in the configuration document in
// the ConfigMap waymark-config among the objects of a manifest.
func setInManifest(manifest []byte, settings map[string]string) ([]byte, error) {
	if len(settings) == 0 {
		return manifest, nil
	}
	documents := bytes.Split(manifest, []byte("\n---\n"))
	found := false
	for i, document := range documents {
		var object map[string]any
		if err := yaml.Unmarshal(document, &object); err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		metadata, _ := object["metadata"].(map[string]any)
		if object["kind"] != "ConfigMap" || metadata["name"] != configMapName {
			continue
		}
		found = true
		if err := setInConfigMap(object, settings); err != nil {
			return nil, fmt.Errorf("ConfigMap %s: %w", configMapName, err)
		}
		adapted, err := yaml.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("ConfigMap %s: %w", configMapName, err)
		}
		documents[i] = bytes.TrimSpace(adapted)
	}
	if !found {
		return nil, fmt.Errorf("no ConfigMap %s to set fields in", configMapName)
	}
	return append(bytes.Join(documents, []byte("\n---\n")), '\n'), nil
}

func setInConfigMap(object map[string]any, settings map[string]string) error {
	data, _ := object["data"].(map[string]any)
	text, ok := data[configKey].(string)
	if !ok {
		return fmt.Errorf("no key %s", configKey)
	}
	adapted, err := SetInDocument(text, settings)
	if err != nil {
		return fmt.Errorf("key %s: %w", configKey, err)
	}
	data[configKey] = adapted
	return nil
}

// SetInDocument sets fields of a YAML document by dotted path; values are YAML.
func SetInDocument(text string, settings map[string]string) (string, error) {
	document := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return "", err
	}
	var errs []error
	for path, value := range settings {
		if err := setField(document, path, value); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	adapted, err := yaml.Marshal(document)
	if err != nil {
		return "", err
	}
	return string(adapted), nil
}

func setField(document map[string]any, path, value string) error {
	var parsed any
	if err := yaml.Unmarshal([]byte(value), &parsed); err != nil {
		return fmt.Errorf("value of %s: %w", path, err)
	}
	fields := strings.Split(path, ".")
	for _, field := range fields[:len(fields)-1] {
		next, ok := document[field].(map[string]any)
		if !ok {
			if document[field] != nil {
				return fmt.Errorf("set %s: %s is no object", path, field)
			}
			next = map[string]any{}
			document[field] = next
		}
		document = next
	}
	document[fields[len(fields)-1]] = parsed
	return nil
}
