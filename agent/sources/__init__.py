"""Where values come from, behind `agent.model.Source`. The only room that reads secrets; it keeps none on disk."""
